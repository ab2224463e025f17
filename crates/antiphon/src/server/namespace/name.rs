//! The names of namespaces.

/// The name of a namespace with its slash: `chat` and `/chat` are one.
pub(crate) fn with_slash(name: &str) -> String {
    match name {
        "" => "/".to_owned(),
        name if name.starts_with('/') => name.to_owned(),
        name => format!("/{name}"),
    }
}
