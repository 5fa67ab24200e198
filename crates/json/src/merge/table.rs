//! Members of several answers in one object, each name once.

use std::{borrow::Cow, collections::HashMap, mem};

use super::{MergeError, MergeMode, MergeSettings, OnConflict, splice::Splice};
use crate::check::{Members, Value, quoted, unescaped};

/// An object that is being merged. Its order is that of the members; the hash is keyed at random, so
/// that no downstream can make names collide, and nothing hangs on it.
#[derive(Default)]
pub(super) struct Table<'j> {
    members: Vec<Member<'j>>,
    /// Where each name is among the members.
    places: HashMap<Cow<'j, [u8]>, usize>,
    /// How many answers were added.
    answers: usize,
    /// What the answer has that is being added.
    wanted: Vec<Wanted<'j>>,
}

struct Member<'j> {
    /// Its name as it is written, quotes included.
    key: Cow<'j, [u8]>,
    slot: Slot<'j>,
    /// The first node that has it.
    from: &'j str,
    /// The last answer that has it, and where that one's value is among what it wanted.
    seen: (usize, usize),
}

enum Slot<'j> {
    /// The answer that brings it is still being read.
    Vacant,
    Value(Value<'j>),
    /// An object that met another.
    Object(Table<'j>),
}

/// The place of a member, and the value that an answer wants there.
type Wanted<'j> = (usize, Value<'j>);

impl<'j> Table<'j> {
    /// Adds the members of the answer of the node `from`. All of its names have their places before a
    /// conflict is looked at, so that no renamed member takes one of them.
    pub(super) fn add(
        &mut self,
        from: &'j str,
        answer: Value<'j>,
        settings: &MergeSettings,
    ) -> Result<(), MergeError> {
        self.answers += 1;
        if answer.is_object() {
            for (key, value) in Members::new(answer) {
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

    /// Finds or makes the place of a member. One that the same answer had before gets the new value.
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

    /// Puts `value` at its place, unless another's is there.
    fn settle(
        &mut self,
        place: usize,
        value: Value<'j>,
        from: &'j str,
        settings: &MergeSettings,
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
            if member.slot.is(value) && settings.on_conflict != OnConflict::Rename {
                return Ok(());
            }
        }
        match settings.on_conflict {
            OnConflict::Error => {
                return Err(MergeError::conflict(member.from, from).within(&member.key));
            }
            OnConflict::First => {}
            OnConflict::Last => member.slot = Slot::Value(value),
            OnConflict::Rename => self.rename(place, value, from),
        }
        Ok(())
    }

    /// Puts `value` at a new place, under a name that is free. No name is asked for twice too often:
    /// each that is taken is a member, and is in the way of one name, or two.
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

    pub(super) fn write(&self, out: &mut Splice) -> Result<(), MergeError> {
        out.put(b"{")?;
        for (place, member) in self.members.iter().enumerate() {
            out.part(place)?;
            out.put(&member.key)?;
            out.put(b":")?;
            match &member.slot {
                Slot::Value(value) => out.put(value.as_bytes())?,
                Slot::Object(object) => object.write(out)?,
                Slot::Vacant => out.put(b"null")?,
            }
        }
        out.put(b"}")
    }
}

impl<'j> Slot<'j> {
    /// What is in it, to be merged with another object; none if it is no object.
    fn open(
        &mut self,
        from: &'j str,
        settings: &MergeSettings,
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

    /// Whether it is written as `value` is.
    fn is(&self, value: Value<'_>) -> bool {
        matches!(self, Self::Value(own) if *own == value)
    }
}

/// The most characters of a pointer that are kept.
const MAX_POINTER: usize = 200;

impl MergeError {
    fn conflict(first: &str, second: &str) -> Self {
        Self::Conflict {
            pointer: String::new(),
            first: first.to_owned(),
            second: second.to_owned(),
        }
    }

    /// The same, seen from the object in which `key` names what it was found in.
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
