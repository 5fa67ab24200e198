/// Defines an enum that is a closed list of names, with the constant `ALL` and the method `as_str`.
///
/// Values may be added to the list, so the enum is `#[non_exhaustive]`.
#[doc(hidden)]
#[macro_export]
macro_rules! labels {
    (
        $(#[$meta:meta])*
        pub enum $list:ident {
            $( $(#[$doc:meta])* $label:ident = $name:literal, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $list {
            $( $(#[$doc])* $label, )*
        }

        impl $list {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$label),*];

            /// Returns the name in logs and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$label => $name,)* }
            }
        }
    };
}
