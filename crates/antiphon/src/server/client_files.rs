//! The files of `socket.io-client` for browsers, served below the server's path as Node serves them.
//!
//! [`ClientFiles`] owns their bytes, read from a folder at the start of the program or embedded in
//! it, and their compressed forms once somebody has asked for these. The engine asks here before it
//! refuses a request that names no transport, so that no other request pays for it. Only the eight
//! names that the client's package has are answered; what isn't there, or isn't turned on, is a 404
//! that says what to do.

#[cfg(feature = "deflate")]
use std::sync::OnceLock;
use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::Path,
};

#[cfg(feature = "deflate")]
use antiphon_protocol::content_coding::{ContentCoding, Encoder};
use bytes::Bytes;
#[cfg(feature = "deflate")]
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS},
    request::Parts,
};

/// The names of the files, as the folder `dist` of the package `socket.io-client` has them.
const NAMES: [&str; 8] = [
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.msgpack.min.js",
    "socket.io.msgpack.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
];

/// What stands in front of the version in the first line of the scripts.
const BANNER: &[u8] = b"Socket.IO v";

/// The files of `socket.io-client`, for pages with
/// `<script src="/socket.io/socket.io.js"></script>`. See
/// [`ServerBuilder::serve_client`](crate::ServerBuilder::serve_client).
pub struct ClientFiles {
    files: Vec<File>,
    etag: HeaderValue,
}

struct File {
    name: &'static str,
    bytes: Bytes,
    #[cfg(feature = "deflate")]
    gzip: OnceLock<Bytes>,
    #[cfg(feature = "deflate")]
    deflate: OnceLock<Bytes>,
}

impl ClientFiles {
    /// Reads the files from a folder: `dist` of the package `socket.io-client`, as `npm install
    /// socket.io-client` puts it into `node_modules`. Other files in it aren't served.
    ///
    /// ```no_run
    /// use antiphon::{ClientFiles, Server};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let files = ClientFiles::folder("node_modules/socket.io-client/dist")?;
    /// let io = Server::builder().serve_client(files).build();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a file can't be read, or none of them is there.
    pub fn folder(folder: impl AsRef<Path>) -> io::Result<Self> {
        let folder = folder.as_ref();
        let mut files = Vec::new();
        for name in NAMES {
            match std::fs::read(folder.join(name)) {
                Ok(bytes) => files.push((name, Bytes::from(bytes))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if files.is_empty() {
            let message = format!(
                "{} has none of the files of socket.io-client, such as {}: name the folder `dist` of \
                 that package",
                folder.display(),
                NAMES[0]
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        Ok(Self::new(files))
    }

    /// Files that are part of the program: what [`client_files!`](crate::client_files) calls.
    #[doc(hidden)]
    #[must_use]
    pub fn embedded(files: [&'static [u8]; 8]) -> Self {
        let files = NAMES.into_iter().zip(files);
        Self::new(files.map(|(name, bytes)| (name, Bytes::from_static(bytes))))
    }

    fn new(files: impl IntoIterator<Item = (&'static str, Bytes)>) -> Self {
        let files = files.into_iter().map(|(name, bytes)| File {
            name,
            bytes,
            #[cfg(feature = "deflate")]
            gzip: OnceLock::new(),
            #[cfg(feature = "deflate")]
            deflate: OnceLock::new(),
        });
        let files: Vec<_> = files.collect();
        let version = files.iter().find_map(|file| version(&file.bytes));
        let version = version.unwrap_or_else(|| fingerprint(&files));
        Self {
            files,
            // Plain ASCII.
            etag: HeaderValue::try_from(format!("\"{version}\""))
                .unwrap_or(HeaderValue::from_static("\"\"")),
        }
    }

    /// The file that a request asks for.
    fn respond(&self, name: &str, request: &HeaderMap) -> Response<Bytes> {
        let Some(file) = self.files.iter().find(|file| file.name == name) else {
            return not_found("the folder of `serve_client` has no such file\n");
        };
        let mut response = Response::default();
        let headers = response.headers_mut();
        headers.insert(ETAG, self.etag.clone());
        let cache = HeaderValue::from_static("public, max-age=0");
        headers.insert(CACHE_CONTROL, cache);
        #[cfg(feature = "deflate")]
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if is_known(&self.etag, request) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        let content_type = match name.ends_with(".map") {
            true => "application/json; charset=utf-8",
            false => "application/javascript; charset=utf-8",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let nosniff = HeaderValue::from_static("nosniff");
        headers.insert(X_CONTENT_TYPE_OPTIONS, nosniff);
        *response.body_mut() = file.body(request, response.headers_mut());
        response
    }
}

impl File {
    /// The bytes in a form that the client takes.
    #[cfg(feature = "deflate")]
    fn body(&self, request: &HeaderMap, response: &mut HeaderMap) -> Bytes {
        let accepted = request.get(ACCEPT_ENCODING);
        let accepted = accepted.and_then(|value| ContentCoding::accepted(value.to_str().ok()?));
        let Some(coding) = accepted else {
            return self.bytes.clone();
        };
        let compressed = match coding {
            ContentCoding::Gzip => &self.gzip,
            ContentCoding::Deflate => &self.deflate,
        };
        let compressed =
            compressed.get_or_init(|| Encoder::new(coding).encode(&self.bytes, true).into());
        let name = HeaderValue::from_static(coding.as_str());
        response.insert(CONTENT_ENCODING, name);
        compressed.clone()
    }

    #[cfg(not(feature = "deflate"))]
    fn body(&self, _: &HeaderMap, _: &mut HeaderMap) -> Bytes {
        self.bytes.clone()
    }
}

/// What a server answers to requests for the client's files. Returns `None` for all others.
pub(crate) fn respond(
    path: &str,
    files: Option<&ClientFiles>,
    request: &Parts,
) -> Option<Response<Bytes>> {
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return None;
    }
    let name = request.uri.path().strip_prefix(path)?.strip_prefix('/')?;
    let name = NAMES.into_iter().find(|one| *one == name)?;
    Some(match files {
        Some(files) => files.respond(name, &request.headers),
        None => not_found(
            "this server doesn't serve the client: turn it on by \
             Server::builder().serve_client(ClientFiles::folder(\"node_modules/socket.io-client/dist\")?), \
             or load the client from elsewhere\n",
        ),
    })
}

fn not_found(text: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Whether a client says that it has the file already (RFC 9110 §13.1.2): compared weakly.
fn is_known(etag: &HeaderValue, request: &HeaderMap) -> bool {
    let known = request.get_all(IF_NONE_MATCH).iter();
    let mut known = known.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    known.any(|one| {
        let one = one.trim_ascii();
        one == b"*" || one.strip_prefix(b"W/").unwrap_or(one) == etag.as_bytes()
    })
}

/// The version that a script says in its first line: `Socket.IO v4.8.4`.
fn version(script: &[u8]) -> Option<String> {
    let head = &script[..script.len().min(200)];
    let at = head.windows(BANNER.len()).position(|part| part == BANNER)?;
    let version = head[at + BANNER.len()..].iter();
    let version = version.take_while(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(byte));
    let version: String = version.map(|byte| char::from(*byte)).collect();
    (!version.is_empty()).then_some(version)
}

/// What tells these files from others, where none says its version.
fn fingerprint(files: &[File]) -> String {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.bytes.hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

impl fmt::Debug for ClientFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.files.iter().map(|file| file.name).collect();
        f.debug_struct("ClientFiles")
            .field("files", &names)
            .field("etag", &self.etag)
            .finish()
    }
}

/// The files of `socket.io-client` as a part of the program: a
/// [`ClientFiles`](crate::ClientFiles). The folder is that of the package's `dist`, from the folder
/// of your `Cargo.toml`; all eight files must be in it when the program is compiled.
///
/// ```ignore
/// let files = antiphon::client_files!("node_modules/socket.io-client/dist");
/// let io = antiphon::Server::builder().serve_client(files).build();
/// ```
#[macro_export]
macro_rules! client_files {
    ($folder:literal) => {
        $crate::client_files!(@each $folder,
            "socket.io.js", "socket.io.js.map",
            "socket.io.min.js", "socket.io.min.js.map",
            "socket.io.msgpack.min.js", "socket.io.msgpack.min.js.map",
            "socket.io.esm.min.js", "socket.io.esm.min.js.map")
    };
    (@each $folder:literal, $($name:literal),*) => {
        $crate::ClientFiles::embedded([
            $(include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $folder, "/", $name))),*
        ])
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> ClientFiles {
        let script = Bytes::from_static(b"/*!\n * Socket.IO v4.8.4\n * (c) 2014-2025\n */ code();");
        ClientFiles::new([
            ("socket.io.js", script),
            ("socket.io.js.map", Bytes::from_static(b"{}")),
        ])
    }

    fn ask(method: &str, path: &str, headers: &[(&str, &str)]) -> Option<Response<Bytes>> {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        respond("/socket.io", Some(&files()), &parts)
    }

    #[test]
    fn exactly_the_names_of_the_package_are_answered() {
        let file = ask("GET", "/socket.io/socket.io.js?v=1", &[]).unwrap();
        assert_eq!(file.status(), StatusCode::OK);
        assert_eq!(file.headers()["etag"], "\"4.8.4\"");
        assert_eq!(file.headers()["cache-control"], "public, max-age=0");
        let map = ask("HEAD", "/socket.io/socket.io.js.map", &[]).unwrap();
        assert_eq!(
            map.headers()["content-type"],
            "application/json; charset=utf-8"
        );
        let missing = ask("GET", "/socket.io/socket.io.min.js", &[]).unwrap();
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);
        for path in [
            "/socket.io/",
            "/socket.io/socket.io.slim.js",
            "/socket.io/socket.io.js.",
            "/socket.io/socket.io-js",
            "/socket.io/../socket.io.js",
            "/socket.io/x/socket.io.js",
            "/socket.iosocket.io.js",
            "/socket.io.js",
            "/socket.io/package.json",
        ] {
            assert!(ask("GET", path, &[]).is_none(), "{path}");
        }
        assert!(ask("POST", "/socket.io/socket.io.js", &[]).is_none());
    }

    #[test]
    fn a_client_that_has_the_version_gets_no_other() {
        for (known, status) in [
            ("\"4.8.4\"", 304),
            ("W/\"4.8.4\"", 304),
            ("\"a\", W/\"4.8.4\"", 304),
            ("*", 304),
            ("4.8.4", 200),
            ("\"4.8.3\"", 200),
            ("", 200),
        ] {
            let got = ask(
                "GET",
                "/socket.io/socket.io.js",
                &[("if-none-match", known)],
            )
            .unwrap();
            assert_eq!(got.status(), status, "{known}");
            assert_eq!(got.body().is_empty(), status == 304, "{known}");
        }
    }

    #[test]
    fn files_without_a_version_are_told_apart_by_what_is_in_them() {
        let of = |text: &'static str| ClientFiles::new([("socket.io.js", text.into())]).etag;
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
    }

    #[test]
    fn a_folder_without_the_files_says_what_is_wrong() {
        let error = ClientFiles::folder("src").unwrap_err().to_string();
        assert!(
            error.contains("socket.io.js") && error.contains("dist"),
            "{error}"
        );
        assert!(ClientFiles::folder("there is none").is_err());
    }
}
