//! The macros that declare a config struct and its setters.

/// Declares a config struct with a default for each field, in the syntax of [RFC 3681].
///
/// Implements `Default` and the methods of [`setters!`](crate::setters). A struct that is marked as `serde`
/// is read from a file, in which a duration has a unit and an optional value may be `off`. Only this crate
/// uses the mark, because the attributes name its modules. Any other struct states its own derives.
///
/// After the struct, `limits` lists the checks of single fields: methods of
/// [`ConfigErrors`](crate::config::ConfigErrors) with their arguments. With the feature `schemars`, the struct
/// implements `Limits`, which adds them to a JSON Schema.
///
/// [RFC 3681]: https://rust-lang.github.io/rfcs/3681-default-field-values.html
#[doc(hidden)]
#[macro_export]
macro_rules! config {
    (serde $(#[$attr:meta])* pub struct $config:ident { $($fields:tt)* }) => {
        $crate::config!(@ serde [
            #[derive(Clone, Debug, PartialEq)]
            #[cfg_attr(
                feature = "serde",
                derive(serde::Serialize, serde::Deserialize),
                serde(deny_unknown_fields, default)
            )]
            #[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
            $(#[$attr])*
            #[cfg_attr(feature = "schemars", schemars(transform = $crate::config::schema::off))]
        ] $config [] $($fields)*);
    };
    (serde $(#[$attr:meta])* pub struct $config:ident { $($fields:tt)* }
     limits { $($limited:ident: $check:ident($($argument:expr),*),)+ }) => {
        $crate::config! {
            serde
            $(#[$attr])*
            #[cfg_attr(
                feature = "schemars",
                schemars(transform = <Self as $crate::config::schema::Limits>::add_limits)
            )]
            pub struct $config { $($fields)* }
        }
        $crate::config!(@limits $config $($limited: $check($($argument),*),)+);
    };
    ($(#[$attr:meta])* pub struct $config:ident { $($fields:tt)* }
     limits { $($limited:ident: $check:ident($($argument:expr),*),)+ }) => {
        $crate::config! { $(#[$attr])* pub struct $config { $($fields)* } }
        $crate::config!(@limits $config $($limited: $check($($argument),*),)+);
    };
    (@limits $config:ident $($limited:ident: $check:ident($($argument:expr),*),)+) => {
        impl $config {
            /// Checks the limits of single fields.
            fn check_limits(&self) -> $crate::config::ConfigErrors {
                $crate::config::ConfigErrors::default()
                    $(.$check(stringify!($limited), self.$limited, $($argument),*))+
            }
        }

        #[cfg(feature = "schemars")]
        impl $crate::config::schema::Limits for $config {
            fn add_limits(schema: &mut schemars::Schema) {
                $(if let Some(field) = $crate::config::schema::field(schema, stringify!($limited)) {
                    $crate::config::schema::$check(field, $($argument),*);
                })+
            }
        }
    };
    ($(#[$attr:meta])* pub struct $config:ident { $($fields:tt)* }) => {
        $crate::config!(@ plain [$(#[$attr])*] $config [] $($fields)*);
    };
    // The first fields of `rest` move to `done`, with the attributes that their types need.
    (@ serde $attrs:tt $config:ident [$($done:tt)*]
     $(#[$attr:meta])* pub $field:ident: Duration = $default:expr, $($rest:tt)*) => {
        $crate::config!(@ serde $attrs $config [$($done)* {
            [
                $(#[$attr])*
                #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
                #[cfg_attr(feature = "schemars", schemars(with = "crate::config::schema::Duration"))]
            ]
            [] $field: [Duration] = $default
        }] $($rest)*);
    };
    (@ serde $attrs:tt $config:ident [$($done:tt)*]
     $(#[$attr:meta])* pub $field:ident: Option<Duration> = $default:expr, $($rest:tt)*) => {
        $crate::config!(@ serde $attrs $config [$($done)* {
            [
                $(#[$attr])*
                #[cfg_attr(feature = "serde", serde(with = "crate::config::duration::option"))]
                #[cfg_attr(feature = "schemars", schemars(with = "Option<crate::config::schema::Duration>"))]
            ]
            [] $field: [Option<Duration>] = $default
        }] $($rest)*);
    };
    (@ serde $attrs:tt $config:ident [$($done:tt)*]
     $(#[$attr:meta])* pub $field:ident: Option<$type:ty> = $default:expr, $($rest:tt)*) => {
        $crate::config!(@ serde $attrs $config [$($done)* {
            [
                $(#[$attr])*
                // Not `with`, which schemars takes as a type.
                #[cfg_attr(
                    feature = "serde",
                    serde(
                        serialize_with = "crate::config::option::serialize",
                        deserialize_with = "crate::config::option::deserialize"
                    )
                )]
            ]
            [] $field: [Option<$type>] = $default
        }] $($rest)*);
    };
    // A field that exists only with a feature.
    (@ $mark:ident $attrs:tt $config:ident [$($done:tt)*]
     $(#[doc = $doc:expr])* #[cfg($($cfg:tt)+)]
     pub $field:ident: $type:ident $(<$($argument:ty),+>)? = $default:expr, $($rest:tt)*) => {
        $crate::config!(@ $mark $attrs $config [$($done)* {
            [$(#[doc = $doc])*] [#[cfg($($cfg)+)]] $field: [$type $(<$($argument),+>)?] = $default
        }] $($rest)*);
    };
    // A type that `setters!` must recognize is passed on as it is written.
    (@ $mark:ident $attrs:tt $config:ident [$($done:tt)*]
     $(#[$attr:meta])* pub $field:ident: Vec<String> = $default:expr, $($rest:tt)*) => {
        $crate::config!(@ $mark $attrs $config [$($done)* {
            [$(#[$attr])*] [] $field: [Vec<String>] = $default
        }] $($rest)*);
    };
    (@ $mark:ident $attrs:tt $config:ident [$($done:tt)*]
     $(#[$attr:meta])* pub $field:ident: $type:ident $(<$($argument:ty),+>)? = $default:expr, $($rest:tt)*) => {
        $crate::config!(@ $mark $attrs $config [$($done)* {
            [$(#[$attr])*] [] $field: [$type $(<$($argument),+>)?] = $default
        }] $($rest)*);
    };
    (@ $mark:ident [$($attrs:tt)*] $config:ident [$({
        [$($field_attrs:tt)*] [$($cfg:tt)*] $field:ident: [$($type:tt)+] = $default:expr
    })*]) => {
        $($attrs)*
        #[non_exhaustive]
        pub struct $config {
            $($($field_attrs)* $($cfg)* pub $field: $($type)+,)*
        }

        impl Default for $config {
            fn default() -> Self {
                Self { $($($cfg)* $field: $default,)* }
            }
        }

        $crate::setters! { $config { $($($cfg)* $field: $($type)+,)* } }
    };
}

/// Implements `new`, which returns the default, and a chained setter for each field of a config
/// struct.
///
/// The setter of an `Option`, `Vec` or `String` field takes any value that converts into the type
/// of the field. The setter of a `Vec<String>` takes any sequence of values that convert into strings.
#[doc(hidden)]
#[macro_export]
macro_rules! setters {
    (without new $config:ident { $($fields:tt)* }) => {
        $crate::setters!(@ $config [] $($fields)*);
    };
    ($config:ident { $($fields:tt)* }) => {
        impl $config {
            /// Creates the default configuration.
            #[must_use]
            pub fn new() -> Self {
                Self::default()
            }
        }
        $crate::setters!(@ $config [] $($fields)*);
    };
    (@ $config:ident [$($done:tt)*] $(#[$cfg:meta])* $field:ident: Option<$type:ty>, $($rest:tt)*) => {
        $crate::setters!(@into $config [$($done)*] $(#[$cfg])* $field: Option<$type>, $($rest)*);
    };
    (@ $config:ident [$($done:tt)*] $(#[$cfg:meta])* $field:ident: Vec<String>, $($rest:tt)*) => {
        $crate::setters!(@ $config [$($done)* {
            [$(#[$cfg])*] $field: impl IntoIterator<Item = impl Into<String>> =
                $field.into_iter().map(Into::into).collect()
        }] $($rest)*);
    };
    (@ $config:ident [$($done:tt)*] $(#[$cfg:meta])* $field:ident: Vec<$type:ty>, $($rest:tt)*) => {
        $crate::setters!(@into $config [$($done)*] $(#[$cfg])* $field: Vec<$type>, $($rest)*);
    };
    (@ $config:ident [$($done:tt)*] $(#[$cfg:meta])* $field:ident: String, $($rest:tt)*) => {
        $crate::setters!(@into $config [$($done)*] $(#[$cfg])* $field: String, $($rest)*);
    };
    (@ $config:ident [$($done:tt)*] $(#[$cfg:meta])* $field:ident: $type:ty, $($rest:tt)*) => {
        $crate::setters!(@ $config [$($done)* { [$(#[$cfg])*] $field: $type = $field }] $($rest)*);
    };
    (@into $config:ident [$($done:tt)*] $(#[$cfg:meta])* $field:ident: $type:ty, $($rest:tt)*) => {
        $crate::setters!(
            @ $config [$($done)* { [$(#[$cfg])*] $field: impl Into<$type> = $field.into() }] $($rest)*
        );
    };
    (@ $config:ident [$({ [$($cfg:tt)*] $field:ident: $type:ty = $value:expr })*]) => {
        impl $config {
            $(
                $($cfg)*
                #[doc = concat!("Sets [`", stringify!($field), "`](field@Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $field(mut self, $field: $type) -> Self {
                    self.$field = $value;
                    self
                }
            )*
        }
    };
}
