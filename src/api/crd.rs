//! The CustomResourceDefinition, as `crd` prints it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

use super::RedisExpiryListener;

/// The CustomResourceDefinition.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = RedisExpiryListener::crd();
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            plain(schema);
            name(schema);
        }
    }
    crd
}

/// The same as YAML, always with the same bytes.
pub fn crd_yaml() -> Result<String, serde_norway::Error> {
    let mut crd = serde_norway::to_value(crd())?;
    whole(&mut crd);
    serde_norway::to_string(&crd)
}

/// Bounds are floating-point numbers in Kubernetes's types: 1024.0 is meant to be 1024.
fn whole(value: &mut serde_norway::Value) {
    match value {
        serde_norway::Value::Number(number) => {
            // `{}` writes a whole f64 without a fraction.
            if let Some(Ok(whole)) =
                number.as_f64().filter(|_| number.is_f64()).map(|float| format!("{float}").parse::<i64>())
            {
                *number = whole.into();
            }
        }
        serde_norway::Value::Sequence(items) => items.iter_mut().for_each(whole),
        serde_norway::Value::Mapping(fields) => fields.iter_mut().for_each(|(_, value)| whole(value)),
        _ => {}
    }
}

/// A rule can point at the name only where the schema has it; the API server knows the rest of the metadata by itself.
fn name(schema: &mut JSONSchemaProps) {
    let of = |type_: &str| JSONSchemaProps { type_: Some(type_.to_owned()), ..JSONSchemaProps::default() };
    let properties = Some([("name".to_owned(), of("string"))].into());
    let metadata = JSONSchemaProps { properties, ..of("object") };
    schema.properties.get_or_insert_default().insert("metadata".to_owned(), metadata);
}

/// What Rust's types leave in a schema and Kubernetes has no use for.
///
/// An `Option` may be null. A field that is null has been given, to CEL's `has`, so that "exactly one of" would be true of
/// a null: here it is refused. A `u32` has a format that no client knows, about which `kubectl` warns.
fn plain(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = Some("int32".to_owned());
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        plain(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => plain(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(plain),
        None => {}
    }
}
