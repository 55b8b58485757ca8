//! What INFO answers, as far as it is the same in all its sections.

/// The value of `name` among the lines `name:value` that INFO or CLUSTER INFO answers; `None` where there is no such line.
pub fn info_field<'t>(info: &'t str, name: &str) -> Option<&'t str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
