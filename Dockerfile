# The operator's image: one static program, certificates, a licence, and nothing else.
#
#   docker build .                              compiles it; the dependencies are a layer of their own
#   make image                                  the same last stage around a program that was compiled here
#
# Each base can be replaced by a build argument where the public ones can't be pulled.
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
# `build`, or `outside`: then target/image holds the program and the certificates.
ARG BINARY=build

FROM ${RUST_IMAGE} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# The list of what it was built from stays in the program: `cargo audit bin` reads it.
ARG CARGO_AUDITABLE=0.7.7
RUN cargo install cargo-auditable --version "${CARGO_AUDITABLE}" --locked --root /usr/local
# glibc linked in: its resolver asks the cluster's DNS without files beside it.
ENV RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_RELEASE_STRIP=symbols
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
# With nothing of ours: made anew only when one of the two files changes. Naming the target keeps RUSTFLAGS from
# macros, which can't be static.
RUN rustc -vV | sed -n 's/^host: //p' > /target \
    && mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo auditable build --release --locked --target "$(cat /target)" --bin redis-expiry-operator \
    && rm -r src
COPY src src
COPY examples/order-service examples/order-service
# Cargo compares times, and what was copied may be older than what stood in for it.
RUN touch src/main.rs src/lib.rs \
    && cargo auditable build --release --locked --target "$(cat /target)" --bin redis-expiry-operator \
    && mkdir /out \
    && cp "target/$(cat /target)/release/redis-expiry-operator" /etc/ssl/certs/ca-certificates.crt /out/

FROM scratch AS outside
COPY target/image/redis-expiry-operator target/image/ca-certificates.crt /out/

# The default once more: an older buildah (1.28) does not see by the first that a stage is meant.
FROM ${BINARY:-build} AS binary

FROM scratch
COPY --from=binary /out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=binary /out/redis-expiry-operator /redis-expiry-operator
COPY LICENSE /LICENSE
# A number: the kubelet can't tell of a name whether it is root.
USER 65532:65532
ENTRYPOINT ["/redis-expiry-operator"]
ARG VERSION=dev
ARG REVISION=unknown
ARG SOURCE=""
LABEL org.opencontainers.image.title="redis-expiry-operator" \
    org.opencontainers.image.description="Turns Redis key expiry into webhooks: on time, none lost, none invented." \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.source="${SOURCE}" \
    org.opencontainers.image.base.name="scratch"
