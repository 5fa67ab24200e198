//! An object that collects the members of several responses, each name once.

use std::{borrow::Cow, collections::HashMap, mem};

use super::{MergeConfig, MergeError, MergeMode, OnConflict, splice::Splice};
use crate::check::{Value, members, quoted, unescaped};

/// An object that is being merged.
///
/// The order of the result is the order of `members`. The hash map is keyed at random, so that no
/// downstream can construct colliding names, and its order does not influence the result.
#[derive(Default)]
pub(super) struct Table<'j> {
    members: Vec<Member<'j>>,
    /// Index in `members` by decoded name.
    places: HashMap<Cow<'j, [u8]>, usize>,
    /// Number of responses added so far.
    answers: usize,
    /// Values of the response that is being added. Kept to reuse its memory.
    wanted: Vec<Wanted<'j>>,
}

struct Member<'j> {
    /// Name as written, with quotes.
    key: Cow<'j, [u8]>,
    slot: Slot<'j>,
    /// Name of the first node with the member.
    from: &'j str,
    /// Number of the last response with the member, and the index of that value in `Table::wanted`.
    seen: (usize, usize),
}

enum Slot<'j> {
    /// The value is still in `Table::wanted`.
    Vacant,
    Value(Value<'j>),
    /// The merged members of several objects.
    Object(Table<'j>),
}

/// The index of a member, and the value that a response has for it.
type Wanted<'j> = (usize, Value<'j>);

impl<'j> Table<'j> {
    /// Adds the members of `answer`, the response of the node `from`.
    ///
    /// All names of the response are entered before conflicts are resolved, so that no renamed
    /// member takes one of them.
    pub(super) fn add(
        &mut self,
        from: &'j str,
        answer: Value<'j>,
        settings: &MergeConfig,
    ) -> Result<(), MergeError> {
        self.answers += 1;
        if answer.is_object() {
            for (key, value) in members(answer) {
                self.note(key.into(), value, from);
            }
        } else {
            self.note(quoted(from).into(), answer, from);
        }
        let mut wanted = mem::take(&mut self.wanted);
        for (place, value) in wanted.drain(..) {
            self.settle(place, value, from, settings)?;
        }
        self.wanted = wanted;
        Ok(())
    }

    /// Finds or creates the member with the name `key`, and records `value` for it. If the same
    /// response had the name before, the new value replaces the earlier one.
    fn note(&mut self, key: Cow<'j, [u8]>, value: Value<'j>, from: &'j str) {
        let name = match &key {
            Cow::Borrowed(key) => unescaped(key),
            Cow::Owned(key) => Cow::Owned(unescaped(key).into_owned()),
        };
        let seen = (self.answers, self.wanted.len());
        let next = self.members.len();
        let place = *self.places.entry(name).or_insert(next);
        if place == next {
            self.members.push(Member {
                key,
                slot: Slot::Vacant,
                from,
                seen,
            });
        } else {
            let member = &mut self.members[place];
            if member.seen.0 == self.answers {
                self.wanted[member.seen.1].1 = value;
                return;
            }
            member.seen = seen;
        }
        self.wanted.push((place, value));
    }

    /// Stores `value` in the member at `place`, merges it, or resolves the conflict with its value.
    fn settle(
        &mut self,
        place: usize,
        value: Value<'j>,
        from: &'j str,
        settings: &MergeConfig,
    ) -> Result<(), MergeError> {
        let member = &mut self.members[place];
        if let Slot::Vacant = member.slot {
            member.slot = Slot::Value(value);
            return Ok(());
        }
        if settings.mode == MergeMode::Deep {
            if value.is_object()
                && let Some(object) = member.slot.open(member.from, settings)?
            {
                let merged = object.add(from, value, settings);
                return merged.map_err(|error| error.within(&member.key));
            }
            let is_equal = matches!(&member.slot, Slot::Value(own) if *own == value);
            if is_equal && settings.on_conflict != OnConflict::Rename {
                return Ok(());
            }
        }
        match settings.on_conflict {
            OnConflict::Error => {
                let conflict = MergeError::Conflict {
                    pointer: String::new(),
                    first: member.from.to_owned(),
                    second: from.to_owned(),
                };
                return Err(conflict.within(&member.key));
            }
            OnConflict::First => {}
            OnConflict::Last => member.slot = Slot::Value(value),
            OnConflict::Rename => self.rename(place, value, from),
        }
        Ok(())
    }

    /// Adds `value` as a new member, with the first free name that [`OnConflict::Rename`] allows.
    ///
    /// The search for a free name stays linear overall: each taken name is a member, and can
    /// collide with the candidates of at most two names.
    fn rename(&mut self, place: usize, value: Value<'j>, from: &'j str) {
        let mut key = quoted(from);
        key.pop();
        key.push(b'_');
        key.extend_from_slice(&self.members[place].key[1..]);
        let length = key.len() - 1;
        let mut suffix = 1;
        while self.places.contains_key(&*unescaped(&key)) {
            suffix += 1;
            key.truncate(length);
            key.extend_from_slice(format!("_{suffix}\"").as_bytes());
        }
        let name = unescaped(&key).into_owned();
        self.places.insert(name.into(), self.members.len());
        self.members.push(Member {
            key: key.into(),
            slot: Slot::Value(value),
            from,
            seen: (0, 0),
        });
    }

    /// Writes the object to `out`.
    pub(super) fn write(&self, out: &mut Splice) -> Result<(), MergeError> {
        out.put(b"{")?;
        for (place, member) in self.members.iter().enumerate() {
            out.part(place)?;
            out.put(&member.key)?;
            out.put(b":")?;
            match &member.slot {
                Slot::Value(value) => out.put(value.as_bytes())?,
                Slot::Object(object) => object.write(out)?,
                // `add` leaves no vacant slot behind, except when it fails.
                Slot::Vacant => out.put(b"null")?,
            }
        }
        out.put(b"}")
    }
}

impl<'j> Slot<'j> {
    /// Returns the members of the object in this slot, for merging with another object. Returns
    /// `None` if the slot holds no object.
    fn open(
        &mut self,
        from: &'j str,
        settings: &MergeConfig,
    ) -> Result<Option<&mut Table<'j>>, MergeError> {
        if let Self::Value(value) = self
            && value.is_object()
        {
            let mut table = Table::default();
            table.add(from, *value, settings)?;
            *self = Self::Object(table);
        }
        Ok(match self {
            Self::Object(table) => Some(table),
            Self::Value(_) | Self::Vacant => None,
        })
    }
}

/// Maximum length of the pointer in [`MergeError::Conflict`], in characters.
const MAX_POINTER: usize = 200;

impl MergeError {
    /// Prepends `key` to the pointer of a conflict.
    fn within(mut self, key: &[u8]) -> Self {
        if let Self::Conflict { pointer, .. } = &mut self {
            let name = unescaped(key);
            let name = String::from_utf8_lossy(&name);
            let name = name.replace('~', "~0").replace('/', "~1");
            let whole = ["/", &name, pointer.as_str()].concat();
            *pointer = whole.chars().take(MAX_POINTER).collect();
        }
        self
    }
}
