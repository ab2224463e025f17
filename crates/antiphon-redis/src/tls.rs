//! TLS: which code does the cryptography.

use rustls::crypto::{CryptoProvider, ring};

/// Chooses a provider, if the program hasn't. Without one `rustls` panics where the program's
/// dependencies bring several, or none.
pub(crate) fn choose_provider() {
    if CryptoProvider::get_default().is_none() {
        // Another thread may have chosen one meanwhile.
        let _ = ring::default_provider().install_default();
    }
}
