//! Strict reading of the JSON objects in a token, without duplicate names at any depth.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value as Json};

/// A value that was taken from an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Member<'t> {
    Number(f64),
    Text(Cow<'t, str>),
    /// A list that has only strings.
    Texts(Vec<Cow<'t, str>>),
    /// Any other value.
    Other,
}

/// Paths of names that lead to values of an object. An empty path leads to no value.
#[derive(Clone, Debug)]
pub(super) struct Paths<const N: usize> {
    /// The [`key`] of the first name of each path.
    first: [u64; N],
    paths: [Vec<String>; N],
}

impl<const N: usize> Paths<N> {
    pub(super) fn new(paths: [Vec<String>; N]) -> Self {
        const { assert!(N <= u32::BITS as usize) }
        Self {
            first: std::array::from_fn(|index| paths[index].first().map_or(0, |name| key(name))),
            paths,
        }
    }

    /// Returns the paths that end at the member `name` of the object at `place`, and those that lead on
    /// from there, one bit for each.
    #[inline]
    fn to(&self, name: &str, first: u64, place: Place) -> (u32, u32) {
        let mut candidates = place.open;
        if place.level == 0 {
            let keys = self.first.iter().rev();
            candidates = keys.fold(0, |bits, key| bits << 1 | u32::from(*key == first));
        }
        let (mut ends, mut open) = (0, 0);
        while candidates != 0 {
            let index = candidates.trailing_zeros();
            candidates &= candidates - 1;
            match self.paths[index as usize].get(place.level..) {
                Some([step]) if step == name => ends |= 1 << index,
                Some([step, ..]) if step == name => open |= 1 << index,
                _ => {}
            }
        }
        (ends, open)
    }
}

/// Returns the first bytes of `name`, which tell most names apart.
fn key(name: &str) -> u64 {
    match name.as_bytes().first_chunk() {
        Some(first) => u64::from_le_bytes(*first),
        None => name
            .bytes()
            .rev()
            .fold(0, |key, byte| key << 8 | u64::from(byte)),
    }
}

/// Reads a JSON object that nests at most `depth` levels, itself included, and takes the values at
/// `paths` from it. Returns the number of its members, or `None` if `text` is not such an object or has a
/// duplicate name at any depth.
///
/// All other values are checked and not kept.
pub(super) fn object<'t, const N: usize>(
    text: &'t [u8],
    depth: usize,
    paths: &Paths<N>,
    found: &mut [Option<Member<'t>>; N],
) -> Option<usize> {
    let mut reader = Reader {
        paths,
        found,
        names: Vec::with_capacity(16),
    };
    let place = Place {
        depth,
        level: 0,
        open: 0,
    };
    // The whole text is checked at once, because that is faster than for each string.
    let text = std::str::from_utf8(text).ok()?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let len = deserializer.deserialize_map(Members(&mut reader, place));
    deserializer.end().ok()?;
    len.ok()
}

/// Checks like [`object`], and parses all members.
pub(super) fn map(text: &[u8], depth: usize) -> Option<Map<String, Json>> {
    object(text, depth, &Paths::new([]), &mut [])?;
    serde_json::from_slice(text).ok()
}

struct Reader<'r, 't, const N: usize> {
    paths: &'r Paths<N>,
    found: &'r mut [Option<Member<'t>>; N],
    /// Names of the objects that are being read with their keys, those of the outermost first.
    names: Vec<(u64, Cow<'t, str>)>,
}

/// The place of an object in the text.
#[derive(Clone, Copy)]
struct Place {
    /// Number of levels that may follow, with this one.
    depth: usize,
    /// Number of names that lead here.
    level: usize,
    /// One bit for each path that leads here and further, unless this is the outermost object.
    open: u32,
}

impl Place {
    /// Returns the place one level deeper, with no path that leads there.
    fn inner<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1);
        Ok(Self {
            depth: depth.ok_or_else(|| E::custom("the value nests too deeply"))?,
            level: self.level + 1,
            open: 0,
        })
    }
}

impl<const N: usize> Reader<'_, '_, N> {
    /// Removes the names from `start` on. Returns `true` if one of them is there twice.
    fn has_duplicate(&mut self, start: usize) -> bool {
        let names = &mut self.names[start..];
        names.sort_unstable();
        let duplicate = names.windows(2).any(|pair| pair[0] == pair[1]);
        self.names.truncate(start);
        duplicate
    }
}

/// Name of a member, borrowed from the text unless it has escapes.
#[derive(Deserialize)]
struct Name<'t>(#[serde(borrow)] Cow<'t, str>);

/// Reads the members of an object. Returns their number.
struct Members<'r, 'p, 't, const N: usize>(&'r mut Reader<'p, 't, N>, Place);

impl<'t, const N: usize> Visitor<'t> for Members<'_, '_, 't, N> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object without duplicate names")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut members: A) -> Result<usize, A::Error> {
        let Self(reader, place) = self;
        let start = reader.names.len();
        let inner = place.inner()?;
        while let Some(Name(name)) = members.next_key()? {
            let first = key(&name);
            let (mut ends, open) = reader.paths.to(&name, first, place);
            reader.names.push((first, name));
            let value = members.next_value_seed(Value {
                place: Place { open, ..inner },
                wanted: ends != 0,
                reader,
            })?;
            let mut value = Some(value);
            while ends != 0 {
                let index = ends.trailing_zeros() as usize;
                ends &= ends - 1;
                let copy = if ends == 0 {
                    value.take()
                } else {
                    value.clone()
                };
                reader.found[index] = copy;
            }
        }
        let len = reader.names.len() - start;
        if reader.has_duplicate(start) {
            return Err(A::Error::custom("duplicate name"));
        }
        Ok(len)
    }
}

/// Reads any value. Returns [`Member::Other`] for a value that is not wanted.
struct Value<'r, 'p, 't, const N: usize> {
    reader: &'r mut Reader<'p, 't, N>,
    place: Place,
    wanted: bool,
}

impl<'t, const N: usize> DeserializeSeed<'t> for Value<'_, '_, 't, N> {
    type Value = Member<'t>;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Member<'t>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'t, const N: usize> Visitor<'t> for Value<'_, '_, 't, N> {
    type Value = Member<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value without duplicate names")
    }

    fn visit_unit<E: Error>(self) -> Result<Member<'t>, E> {
        Ok(Member::Other)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Member<'t>, E> {
        Ok(Member::Other)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Member<'t>, E> {
        Ok(Member::Number(number as f64))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Member<'t>, E> {
        Ok(Member::Number(number as f64))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Member<'t>, E> {
        Ok(Member::Number(number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'t str) -> Result<Member<'t>, E> {
        Ok(Member::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Member<'t>, E> {
        if !self.wanted {
            return Ok(Member::Other);
        }
        Ok(Member::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut items: A) -> Result<Member<'t>, A::Error> {
        let place = self.place.inner()?;
        let (mut texts, mut only_texts) = (Vec::new(), self.wanted);
        while let Some(item) = items.next_element_seed(Value {
            reader: &mut *self.reader,
            place,
            wanted: only_texts,
        })? {
            match item {
                Member::Text(text) if only_texts => texts.push(text),
                _ => only_texts = false,
            }
        }
        Ok(if only_texts {
            Member::Texts(texts)
        } else {
            Member::Other
        })
    }

    fn visit_map<A: MapAccess<'t>>(self, members: A) -> Result<Member<'t>, A::Error> {
        Members(self.reader, self.place).visit_map(members)?;
        Ok(Member::Other)
    }
}
