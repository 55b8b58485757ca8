//! Values put into an object by path, as tests/invalid.yaml and tests/valid.yaml name them.

use serde_json::Value;

/// Null takes a field out.
pub fn put<'a>(object: &mut Value, set: impl IntoIterator<Item = (&'a str, &'a Value)>) {
    for (path, value) in set {
        let (folder, name) = path.rsplit_once('.').expect("a path");
        let parent = folder.split('.').fold(&mut *object, |at, name| &mut at[name]);
        if value.is_null() {
            parent.as_object_mut().unwrap().remove(name);
        } else {
            parent[name] = value.clone();
        }
    }
}
