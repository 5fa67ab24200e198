//! A simple reference implementation of filtering over trees, and a test that compares it with the
//! filter.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::{FieldFilter, FieldFilterConfig, path::Path};
use crate::Json;

/// A step from a value to a member or an item.
#[derive(Clone, Debug)]
enum Step {
    Name(String),
    Index(usize),
}

/// The steps of the paths in a list.
type Paths = Vec<Vec<String>>;

/// Returns the number of steps of `path` that lead to the value at `place`, for each way in which
/// they do. An index may be left out.
fn reached(path: &[String], place: &[Step]) -> Vec<usize> {
    let Some((step, rest)) = place.split_first() else {
        return vec![0];
    };
    let matches = |name: &str| path.first().is_some_and(|first| first == name);
    let one = |rest: &[Step]| reached(&path[1..], rest).into_iter().map(|steps| steps + 1);
    match step {
        Step::Name(name) if matches(name) => one(rest).collect(),
        Step::Name(_) => Vec::new(),
        Step::Index(index) if matches(&index.to_string()) => {
            one(rest).chain(reached(path, rest)).collect()
        }
        Step::Index(_) => reached(path, rest),
    }
}

struct Model {
    allow: Paths,
    deny: Paths,
    /// Paths with their new names.
    rename: Vec<(Vec<String>, String)>,
}

impl Model {
    /// Returns `true` if one of `paths` leads exactly to `place`.
    fn exact(paths: &Paths, place: &[Step]) -> bool {
        let mut paths = paths.iter();
        paths.any(|path| reached(path, place).contains(&path.len()))
    }

    /// Returns `true` if the value at `place` or one around it is allowed as a whole.
    fn whole(&self, place: &[Step]) -> bool {
        let mut around = (0..=place.len()).map(|end| &place[..end]);
        self.allow.is_empty() || around.any(|place| Self::exact(&self.allow, place))
    }

    fn leads(&self, place: &[Step]) -> bool {
        let mut allow = self.allow.iter();
        allow.any(|path| {
            reached(path, place)
                .into_iter()
                .any(|steps| steps < path.len())
        })
    }

    fn new_name(&self, place: &[Step]) -> Option<&str> {
        let mut rename = self.rename.iter();
        let found = rename.find(|(path, _)| reached(path, place).contains(&path.len()));
        found.map(|(_, new)| new.as_str())
    }

    /// Returns `true` if another member of the object at `parent` gets the name `name`.
    fn is_taken(&self, parent: &[Step], name: &str) -> bool {
        self.rename.iter().any(|(path, new)| {
            new == name && reached(&path[..path.len() - 1], parent).contains(&(path.len() - 1))
        })
    }

    fn filter(&self, value: &Value, place: &[Step]) -> Option<Value> {
        let at = |step| [place, &[step]].concat();
        match value {
            Value::Object(members) => {
                let mut out = Map::new();
                for (name, value) in members {
                    let at = at(Step::Name(name.clone()));
                    let new = self.new_name(&at);
                    let removed = Self::exact(&self.deny, &at)
                        || !self.whole(&at) && !self.leads(&at)
                        || new.is_none() && self.is_taken(place, name);
                    if !removed && let Some(value) = self.filter(value, &at) {
                        out.insert(new.unwrap_or(name).into(), value);
                    }
                }
                Some(out.into())
            }
            Value::Array(items) => {
                let items = items.iter().enumerate().filter_map(|(index, item)| {
                    let at = at(Step::Index(index));
                    let removed = Self::exact(&self.deny, &at);
                    if removed {
                        None
                    } else {
                        self.filter(item, &at)
                    }
                });
                Some(items.collect())
            }
            scalar => self.whole(place).then(|| scalar.clone()),
        }
    }
}

fn name() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c.d", "0", "1"])
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = select(vec![json!(1), json!("a"), json!(null)]);
    scalar.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((name(), inner), 0..4).prop_map(|members| {
                let members = members.into_iter();
                members
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()
            }),
        ]
    })
}

fn paths() -> impl Strategy<Value = Vec<Vec<&'static str>>> {
    vec(vec(name(), 1..4), 0..4)
}

fn written(path: &[&str]) -> String {
    let steps: Vec<_> = path.iter().map(|step| step.replace('.', "\\.")).collect();
    steps.join(".")
}

proptest! {
    #[test]
    fn fault_g25_the_filter_agrees_with_a_model_over_trees(
        value in value(),
        allow in paths(),
        deny in paths(),
        // Indexes would give one member several new names.
        rename in vec((vec(select(vec!["a", "b", "c.d"]), 1..3), select(vec!["a", "x", "y"])), 0..3),
    ) {
        let config = FieldFilterConfig::new()
            .allow(allow.iter().map(|path| written(path)).collect())
            .deny(deny.iter().map(|path| written(path)).collect())
            .rename(rename.iter().map(|(path, new)| (written(path), (*new).into())).collect());
        let paths = |paths: &std::collections::BTreeSet<String>| -> Paths {
            let parsed = paths.iter().map(|path| Path::parse(path).unwrap());
            parsed.map(|path| path.steps().map(str::to_owned).collect()).collect()
        };
        let model = Model {
            allow: paths(&config.allow),
            deny: paths(&config.deny),
            rename: config.rename.iter().map(|(old, new)| {
                (Path::parse(old).unwrap().steps().map(str::to_owned).collect(), new.clone())
            }).collect(),
        };
        // Settings that contradict each other are refused.
        let Ok(filter) = FieldFilter::new(config) else { return Ok(()) };
        let answer = Json::parse(value.to_string().into()).unwrap();
        let filtered = filter.apply(answer).unwrap();
        let expected = model.filter(&value, &[]).unwrap_or(Value::Null);
        let filtered: Value = serde_json::from_str(filtered.as_raw()).unwrap();
        prop_assert_eq!(filtered, expected);
    }
}
