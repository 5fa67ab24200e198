//! A part of a policy, or the word `off`.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// Reads a part; `off` is none.
///
/// # Errors
/// Those of the part.
pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_any(Part(PhantomData))
}

/// Writes a part; none is `off`.
///
/// # Errors
/// Those of the serializer.
pub(crate) fn serialize<S: Serializer, T: Serialize>(
    part: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match part {
        Some(part) => part.serialize(serializer),
        None => serializer.serialize_str("off"),
    }
}

struct Part<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Part<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("settings or the word \"off\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<T>, E> {
        match text {
            "off" => Ok(None),
            text => T::deserialize(text.into_deserializer()).map(Some),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}

/// The same for durations.
pub(crate) mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use tower_fanout_layers::policy::duration;

    #[derive(Serialize, Deserialize)]
    struct Text(#[serde(with = "duration")] Duration);

    /// Reads a duration; `off` is none.
    ///
    /// # Errors
    /// It is neither.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = super::deserialize::<D, Text>(deserializer)?;
        Ok(text.map(|Text(duration)| duration))
    }

    /// Writes a duration; none is `off`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        super::serialize(&duration.map(Text), serializer)
    }
}
