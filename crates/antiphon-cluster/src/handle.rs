//! The handles of the crates for brokers, such as `Redis`: what each is to a server is said once, here.

/// Makes a type what its field `cluster` is: a factory of adapters, and all that can be asked of a
/// cluster. For crates of brokers, which need `antiphon` beside this one.
#[doc(hidden)]
#[macro_export]
macro_rules! handle {
    ($handle:ident of $cluster:ty) => {
        impl ::std::ops::Deref for $handle {
            type Target = $cluster;

            fn deref(&self) -> &$cluster {
                &self.cluster
            }
        }

        impl ::antiphon::adapter::AdapterFactory for $handle {
            fn make(
                &self,
                namespace: &str,
                local: ::antiphon::adapter::Local,
            ) -> ::std::sync::Arc<dyn ::antiphon::adapter::Adapter> {
                ::antiphon::adapter::AdapterFactory::make(&self.cluster, namespace, local)
            }

            fn log(
                &self,
                namespace: &str,
                bounds: ::antiphon::recovery::Bounds,
            ) -> ::std::option::Option<::std::sync::Arc<dyn ::antiphon::recovery::Log>> {
                ::antiphon::adapter::AdapterFactory::log(&self.cluster, namespace, bounds)
            }

            fn relay(
                &self,
            ) -> ::std::option::Option<::std::sync::Arc<dyn ::antiphon::adapter::Relay>> {
                ::antiphon::adapter::AdapterFactory::relay(&self.cluster)
            }
        }

        impl ::std::fmt::Debug for $handle {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_tuple(stringify!($handle))
                    .field(&self.cluster)
                    .finish()
            }
        }
    };
}
