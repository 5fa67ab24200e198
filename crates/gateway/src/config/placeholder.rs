//! Reports the mistakes in the templates of requests, each at its place.

use serde_json::json;
use tower_fanout_json::template::{RequestTemplate, Root, TemplateError, TextTemplate};

use super::{
    reader::{ValueReader, split_advice},
    syntax::HELM,
    tree::Kind,
    value::nearest,
};

/// The names that placeholders of a plan can use.
#[derive(Clone, Copy)]
pub(super) struct Known<'n> {
    /// The parameters in the path of the route. `None` if the path is invalid.
    pub(super) parameters: Option<&'n [String]>,
    /// The names of the nodes.
    pub(super) nodes: &'n [&'n str],
}

impl Known<'_> {
    /// Reports all mistakes in the placeholders and braces of the text at `reader`. Returns `true` if it has no mistake.
    pub(super) fn check_text(&self, reader: &ValueReader<'_>) -> bool {
        let errors = reader.tree.as_text().map(TextTemplate::errors);
        let errors = errors.unwrap_or_default();
        for error in &errors {
            self.report(&reader.at_character(error.column().unwrap_or(1)), error);
        }
        errors.is_empty()
    }

    /// Reports a placeholder in double braces in the text of a path, which is literal text there. Returns `true` if there is
    /// none.
    pub(super) fn check_path(&self, reader: &ValueReader<'_>) -> bool {
        let text = reader.tree.as_text().unwrap_or_default();
        let inside = text.match_indices("{{").filter_map(|(at, _)| {
            let (name, _) = text[at + 2..].split_once("}}")?;
            Some((at, name.trim()))
        });
        let is_placeholder =
            |(_, name): &(usize, &str)| self.is_rooted(name.split(['.', '|']).next());
        let is_placeholder = |one: &(usize, &str)| is_placeholder(one) || HELM.is_in(text);
        let Some((at, name)) = inside.into_iter().find(is_placeholder) else {
            return true;
        };
        let (message, help) = match HELM.is_in(text) {
            true => (HELM.message.to_owned(), HELM.help.to_owned()),
            false => (
                format!("{{{{{name}}}}} in double braces is literal text"),
                format!("write {{{name}}}"),
            ),
        };
        reader
            .at_character(text[..at].chars().count() + 1)
            .error_with_help("template", message, Some(help));
        false
    }

    /// Reports all mistakes in the templates of a body. Returns `true` if it has no mistake.
    pub(super) fn check_body(&self, reader: &ValueReader<'_>) -> bool {
        match &reader.tree.kind {
            Kind::Scalar(_) => self.check_text(reader),
            Kind::List(_) => {
                let items = reader.list();
                all(items.iter().map(|item| self.check_body(item)))
            }
            Kind::Map { .. } if self.is_placeholder(reader) => {
                let name = reader.tree.text_in_braces().unwrap_or_default();
                let message = format!("{{{name}}} without quotes is a map");
                let help = format!("put it in quotes: \"{{{name}}}\"");
                reader.error_with_help("template", message, Some(help));
                false
            }
            Kind::Map { .. } => all(reader.entries().iter().map(|(name, value)| {
                let is_valid = self.check_name(&reader.at_key(name), name);
                self.check_body(value) && is_valid
            })),
        }
    }

    /// Returns `true` for a placeholder without quotes, such as `{route.id}`, which YAML reads as a map.
    fn is_placeholder(&self, reader: &ValueReader<'_>) -> bool {
        let name = reader.tree.text_in_braces();
        self.is_rooted(name.and_then(|name| name.split(['.', '|']).next()))
    }

    /// Returns `true` for the first name of a placeholder.
    fn is_rooted(&self, root: Option<&str>) -> bool {
        root.is_some_and(|root| Root::RESERVED.contains(&root) || self.nodes.contains(&root))
    }

    /// Reports the mistake in the name of a member of a body.
    fn check_name(&self, reader: &ValueReader<'_>, name: &str) -> bool {
        let template = RequestTemplate::new(http::Method::POST, "/");
        let template = template.and_then(|template| template.body(&json!({ name: null })));
        template
            .map_err(|error| self.report(reader, &error))
            .is_ok()
    }

    pub(super) fn report(&self, reader: &ValueReader<'_>, error: &TemplateError) {
        let message = error.to_string();
        let (message, advice) = split_advice(&message);
        let message = reader.masked(message);
        let is_hidden = |name: &str| !message.contains(name);
        let help = error.lone_name().map(|name| match is_hidden(name) {
            // Another text in braces is no placeholder.
            true => "write \"{{\" and \"}}\" for braces in the value".to_owned(),
            false => self.meant(name),
        });
        let help = help.or_else(|| advice.map(|advice| reader.masked(advice)));
        reader.error_with_help("template", message, help);
    }

    /// Returns the help for a placeholder that has only a name.
    fn meant(&self, name: &str) -> String {
        let parameters = self.parameters.unwrap_or_default().iter();
        let parameters: Vec<&str> = parameters.map(String::as_str).collect();
        if parameters.contains(&name) {
            return format!("write {{route.{name}}}, the parameter in the path of the route");
        }
        if self.nodes.contains(&name) {
            return format!("add a member of the response of \"{name}\", as in {{{name}.id}}");
        }
        if let Some(near) = nearest(name, parameters.iter().copied()) {
            return format!("did you mean {{route.{near}}}?");
        }
        let sources: Vec<_> = parameters
            .iter()
            .map(|one| format!("{{route.{one}}}"))
            .collect();
        let others = match sources.as_slice() {
            [] => "the route has no parameters".to_owned(),
            all => format!("the route has {}", all.join(", ")),
        };
        format!("write {{query.{name}}} for a query parameter; {others}")
    }
}

/// Returns `true` if all checks of `results` do, each of which is made.
fn all(results: impl Iterator<Item = bool>) -> bool {
    results.fold(true, |all, one| all & one)
}
