//! Certificates for tests of TLS, and a process that trusts one.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Set for the process of a test that trusts a certificate.
const URL: &str = "ANTIPHON_TEST_TLS_URL";

/// A certificate of its own for this machine, and its key. The files are there as long as this is.
pub struct Certificate {
    folder: PathBuf,
    pub certificate: String,
    pub key: String,
}

impl Certificate {
    pub fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("antiphon-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [certificate, key] = make(&folder);
        Self {
            folder,
            certificate,
            key,
        }
    }

    /// Runs this test once more, as a process that trusts the certificate, and gives it the URL.
    /// Who is trusted is asked of the system, here by a variable that a process is started with.
    pub fn trusted(&self, test: &str, url: &str) {
        let trusting = Command::new(env::current_exe().unwrap())
            .args(["--exact", test])
            .env("SSL_CERT_FILE", &self.certificate)
            .env(URL, url)
            .output();
        let trusting = trusting.unwrap();
        assert!(trusting.status.success(), "{trusting:?}");
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The URL, if this is the process that trusts.
pub fn trusts() -> Option<String> {
    env::var(URL).ok()
}

fn make(folder: &Path) -> [String; 2] {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let config = "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = more\n\
        [name]\nCN = localhost\n\
        [more]\nsubjectAltName = IP:127.0.0.1\nbasicConstraints = CA:FALSE\n";
    fs::write(path("config"), config).unwrap();
    let status = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-config", &path("config")])
        .args(["-keyout", &path("key"), "-out", &path("certificate")])
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("openssl is needed").success());
    [path("certificate"), path("key")]
}
