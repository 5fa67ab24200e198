//! Sets of results that are written as a list of words and statuses: `[connect, timeout, 503]`.

/// Declares a set of results as a config struct: a flag for each word of the list, and the statuses. Implements
/// `nothing` and the form in a file. The words are the names of the flags, with the same descriptions.
macro_rules! outcome_list {
    ($(#[$attr:meta])* pub struct $set:ident {
        words { $($(#[doc = $doc:literal])+ $flag:ident,)+ }
        $(#[doc = $statuses_doc:literal])+
        statuses = $statuses:expr
    }) => {
        $crate::config! {
            $(#[$attr])*
            pub struct $set {
                $($(#[doc = $doc])+ pub $flag: bool = true,)+
                $(#[doc = $statuses_doc])+
                pub statuses: Vec<u16> = $statuses,
            }
        }

        impl $set {
            /// Creates an empty set, to which single results can be added.
            #[must_use]
            pub const fn nothing() -> Self {
                Self { $($flag: false,)+ statuses: Vec::new() }
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $set {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let mut set = Self::nothing();
                let mut flags = [$((stringify!($flag), &mut set.$flag)),+];
                $crate::outcome_list::read(deserializer, &mut flags, &mut set.statuses)?;
                Ok(set)
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $set {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let flags = [$((stringify!($flag), self.$flag)),+];
                $crate::outcome_list::write(serializer, &flags, &self.statuses)
            }
        }

        #[cfg(feature = "schemars")]
        impl schemars::JsonSchema for $set {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($set).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let (low, high) = $crate::config::STATUSES.into_inner();
                schemars::json_schema!({
                    "type": "array",
                    "items": {
                        "anyOf": [
                            $({
                                "const": stringify!($flag),
                                "description": concat!($($doc, "\n"),+).replace("\n ", "\n").trim(),
                            },)+
                            { "type": "integer", "minimum": low, "maximum": high },
                        ]
                    }
                })
            }
        }
    };
}
#[cfg(feature = "serde")]
pub(crate) use self::form::{read, write};

#[cfg(feature = "serde")]
mod form {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::config::STATUSES;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Item {
        Status(u16),
        Word(String),
    }

    /// Reads a list into `flags` and `statuses`.
    pub(crate) fn read<'de, D: Deserializer<'de>>(
        deserializer: D,
        flags: &mut [(&str, &mut bool)],
        statuses: &mut Vec<u16>,
    ) -> Result<(), D::Error> {
        for item in Vec::<Item>::deserialize(deserializer)? {
            match item {
                Item::Status(status) if STATUSES.contains(&status) => statuses.push(status),
                Item::Status(status) => {
                    let (low, high) = STATUSES.into_inner();
                    return Err(D::Error::custom(format_args!(
                        "must be within {low} to {high}, got {status}"
                    )));
                }
                Item::Word(word) => match flags.iter_mut().find(|(name, _)| *name == word) {
                    Some((_, flag)) => **flag = true,
                    None => {
                        let names: Vec<_> = flags.iter().map(|(name, _)| *name).collect();
                        let names = names.join(", ");
                        return Err(D::Error::custom(format_args!(
                            "expected a status or one of {names}, got {word:?}"
                        )));
                    }
                },
            }
        }
        Ok(())
    }

    /// Writes the flags that are set, and the statuses, as a list.
    pub(crate) fn write<S: Serializer>(
        serializer: S,
        flags: &[(&str, bool)],
        statuses: &[u16],
    ) -> Result<S::Ok, S::Error> {
        let words = flags.iter().filter(|(_, is_set)| *is_set);
        let words = words.map(|(word, _)| Item::Word((*word).into()));
        serializer.collect_seq(words.chain(statuses.iter().copied().map(Item::Status)))
    }
}
