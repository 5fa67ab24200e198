//! The routing table: the route that responds to a method and a path.

use http::Method;
use indexmap::IndexMap;
use percent_encoding::percent_decode_str;

use super::RoutePath;

/// The configured routes, by method and path.
///
/// Among the routes for the method of a request whose paths match, the most specific one responds: at the first
/// segment in which two of them differ, the literal one precedes the parameter. Routes for other methods make
/// no difference. A route for `GET` is also one for `HEAD`, unless `HEAD` has a route of its own with the same
/// path. A parameter matches an empty segment, as in axum, except at the end of a path.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteTable {
    methods: IndexMap<Method, matchit::Router<Entry>>,
}

/// A route in the table.
#[derive(Clone, Debug)]
struct Entry {
    index: usize,
    /// `true` for each segment that is a parameter. The smallest of several entries is the most specific.
    parameters: Vec<bool>,
}

/// A route that matches a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteMatch {
    /// The index with which the route was inserted.
    pub(crate) index: usize,
    /// The decoded values of the parameters of its path. `None` if one of them is not UTF-8.
    pub(crate) values: Option<Vec<String>>,
}

impl RouteTable {
    /// Adds the route `index`, unless the table has a route with this method and path already.
    pub(crate) fn insert(&mut self, method: &Method, path: &RoutePath, index: usize) {
        let parameters = path.segments().map(|segment| segment.is_none()).collect();
        let entry = Entry { index, parameters };
        let paths = self.methods.entry(method.clone()).or_default();
        let _ = paths.insert(path.pattern(), entry);
    }

    /// Returns the route for a method and an encoded path.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<RouteMatch> {
        let at = |method: &Method| self.methods.get(method)?.at(path).ok();
        let get = (method == Method::HEAD).then(|| at(&Method::GET)).flatten();
        let found = match (at(method), get) {
            (Some(own), Some(get)) if get.value.parameters < own.value.parameters => get,
            (own, get) => own.or(get)?,
        };
        let values = found.params.iter().map(|(_, value)| {
            let value = percent_decode_str(value).decode_utf8().ok()?;
            Some(value.into_owned())
        });
        Some(RouteMatch {
            index: found.value.index,
            values: values.collect(),
        })
    }

    /// Returns the methods that have a route for `path`.
    pub(crate) fn methods(&self, path: &str) -> Vec<&str> {
        let paths = self.methods.iter();
        let found = paths.filter(|(_, paths)| paths.at(path).is_ok());
        let mut methods: Vec<_> = found.map(|(method, _)| method.as_str()).collect();
        if methods.contains(&"GET") && !methods.contains(&"HEAD") {
            methods.push("HEAD");
        }
        methods
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const METHODS: [Method; 4] = [Method::GET, Method::HEAD, Method::POST, Method::PUT];

    type Routes = Vec<(Method, String)>;

    fn table<'r>(routes: impl IntoIterator<Item = (usize, &'r (Method, String))>) -> RouteTable {
        let mut table = RouteTable::default();
        for (index, (method, path)) in routes {
            table.insert(method, &RoutePath::parse(path).unwrap(), index);
        }
        table
    }

    /// Returns the most specific route of `routes` for `method`, by comparing segment by segment.
    fn expected(routes: &Routes, method: &Method, path: &str) -> Option<usize> {
        let path: Vec<_> = path.split('/').collect();
        let matches = |route: &str| {
            let route: Vec<_> = route.split('/').collect();
            let is_match = |(index, (own, sent)): (usize, (&&str, &&str))| {
                // Only the last parameter needs a value, as in axum.
                let has_value = !sent.is_empty() || index + 1 < path.len();
                own == sent || own.starts_with('{') && has_value
            };
            route.len() == path.len() && route.iter().zip(&path).enumerate().all(is_match)
        };
        let order = |route: &str| -> Vec<bool> {
            route
                .split('/')
                .map(|segment| segment.starts_with('{'))
                .collect()
        };
        let is_get = |other: &Method| method == Method::HEAD && other == Method::GET;
        let routes = routes.iter().enumerate();
        routes
            .filter(|(_, (other, route))| (other == method || is_get(other)) && matches(route))
            .min_by_key(|(index, (other, route))| (order(route), is_get(other), *index))
            .map(|(index, _)| index)
    }

    fn path(segments: &'static [&'static str]) -> impl Strategy<Value = String> {
        let segments = prop::collection::vec(prop::sample::select(segments), 1..5);
        segments.prop_map(|segments| format!("/{}", segments.join("/")))
    }

    fn routes() -> impl Strategy<Value = Routes> {
        let path = path(&["a", "ab", "b", "", "{}", "{}", "{}"]).prop_map(|path| {
            let mut parts = path.split("{}");
            let first = parts.next().unwrap_or_default().to_owned();
            (parts.enumerate()).fold(first, |path, (index, part)| {
                format!("{path}{{p{index}}}{part}")
            })
        });
        prop::collection::vec((prop::sample::select(METHODS.to_vec()), path), 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        #[test]
        fn fault_j30_only_routes_of_the_method_decide(routes in routes(), path in path(&["a", "ab", "abc", "b", "c", ""])) {
            let all = table(routes.iter().enumerate());
            let mut allowed = Vec::new();
            for method in METHODS {
                let found = all.find(&method, &path);
                let index = found.as_ref().map(|found| found.index);
                prop_assert_eq!(index, expected(&routes, &method, &path), "{} {}", &method, &path);
                let is_own = |other: &Method| *other == method || method == Method::HEAD && other == Method::GET;
                let own = routes.iter().enumerate().filter(|(_, (other, _))| is_own(other));
                prop_assert_eq!(&table(own).find(&method, &path), &found);
                allowed.extend(found.map(|_| method.to_string()));
            }
            let mut methods = all.methods(&path);
            methods.sort_unstable();
            prop_assert_eq!(methods, allowed);
        }
    }

    #[test]
    fn fault_j30_decodes_the_values_of_parameters() {
        let table = table([(7, &(Method::GET, "/{a}/x/{b}".to_owned()))]);
        let values = |path| table.find(&Method::GET, path).unwrap().values;
        let expected = ["é/".to_owned(), "%2F".to_owned()];
        assert_eq!(values("/%C3%A9%2F/x/%252F"), Some(expected.to_vec()));
        assert_eq!(values("/%C3/x/1"), None);
    }
}
