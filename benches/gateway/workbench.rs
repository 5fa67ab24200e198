//! The downstreams, and measurements of the candidates over them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    DOWNSTREAMS,
    arguments::after,
    by_hand_server,
    callgrind::{Callgrind, Counts},
    candidate::{Candidate, Mode, on_path},
    config,
    load::Load,
    route::{NODES, Route},
    slices::{Case, Memory, Times, compare, memory},
    stub::Stubs,
};

/// Number of connections of a slice.
const CONNECTIONS: usize = 32;
/// Number of requests in flight when memory is measured.
const IN_FLIGHT: usize = 1000;

/// A candidate of the comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    ByHand,
    Gateway,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::ByHand, Self::Gateway];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ByHand => "by hand",
            Self::Gateway => "gateway",
        }
    }
}

/// A route of a candidate, which is a row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) route: Route,
}

impl Row {
    /// Returns the rows with `nodes` calls. The first is that of the hand-written fan-out, which checks no tokens.
    pub(crate) fn of(nodes: usize) -> [Self; 3] {
        let (plain, token) = (Route::new(nodes, false), Route::new(nodes, true));
        [
            (Kind::ByHand, plain),
            (Kind::Gateway, plain),
            (Kind::Gateway, token),
        ]
        .map(|(kind, route)| Self { kind, route })
    }

    /// Returns all rows.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        NODES.into_iter().flat_map(Self::of)
    }
}

/// A temporary folder that is removed on drop.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The running downstreams, and the programs that are measured over them.
pub(crate) struct Workbench {
    runtime: Runtime,
    stubs: Stubs,
    folder: Folder,
    binary: PathBuf,
    token: String,
}

impl Workbench {
    /// Starts the downstreams and writes the configuration of the gateway.
    ///
    /// # Errors
    /// Returns an error if the binary of the gateway is missing.
    pub(crate) fn new() -> io::Result<Self> {
        let binary = binary()?;
        // Each request of the memory measurement has five connections, and processes inherit the limit.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        let name = format!("tower-fanout-bench-{}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0)?;
        let stubs = Stubs::start(DOWNSTREAMS)?;
        fs::write(
            folder.0.join("gateway.yaml"),
            config::file(&stubs.endpoints),
        )?;
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            stubs,
            folder,
            binary,
            token: config::token(),
        })
    }

    fn start(&self, kind: Kind, mode: Mode<'_>) -> io::Result<Candidate> {
        match kind {
            Kind::ByHand => by_hand_server::start(&self.stubs.endpoints, mode),
            Kind::Gateway => {
                let config = self.folder.0.join("gateway.yaml");
                let arguments = ["run", "--workers", "1", "-c"].map(Into::into);
                let arguments = [&arguments[..], &[config.into()]].concat();
                Candidate::start(mode, &self.binary, &arguments)
            }
        }
    }

    /// Sends requests to all routes of the gateway, each for `time`. Then stops the gateway, so that it writes its
    /// profile.
    pub(crate) fn train(&self, time: Duration) -> io::Result<()> {
        let gateway = self.start(Kind::Gateway, Mode::Free)?;
        for route in Route::all() {
            self.load(&gateway, route, CONNECTIONS).run(time);
        }
        gateway.stop()
    }

    fn load(&self, candidate: &Candidate, route: Route, connections: usize) -> Load<'_> {
        let token = route.token.then_some(&*self.token);
        let path = route.path();
        Load::new(&self.runtime, candidate.address, &path, token, connections)
    }

    /// Counts the costs of all routes of a candidate.
    pub(crate) fn count(&self, kind: Kind) -> io::Result<Vec<(Row, Counts)>> {
        if !on_path("valgrind") {
            return Err(io::Error::other("valgrind is not on PATH: install it"));
        }
        let folder = self.folder.0.join(kind.name().replace(' ', "-"));
        fs::create_dir_all(&folder)?;
        let candidate = self.start(kind, Mode::Callgrind(&folder))?;
        let mut callgrind = Callgrind::new(&candidate, &folder);
        let rows = Row::all().filter(|row| row.kind == kind);
        let counts = rows.map(|row| {
            let mut load = self.load(&candidate, row.route, 1);
            Ok((row, callgrind.count(&mut load)?))
        });
        counts.collect()
    }

    /// Counts the costs of all candidates.
    pub(crate) fn count_all(&self) -> io::Result<Vec<(Row, Counts)>> {
        let [by_hand, gateway] = Kind::ALL.map(|kind| self.count(kind));
        Ok([by_hand?, gateway?].concat())
    }

    /// Measures processor times and latencies of all routes of all candidates.
    pub(crate) fn compare(&self, mode: Mode<'_>, slices: usize) -> io::Result<Vec<(Row, Times)>> {
        let by_hand = self.start(Kind::ByHand, mode)?;
        let gateway = self.start(Kind::Gateway, mode)?;
        let mut all = Vec::new();
        for nodes in NODES {
            let rows = Row::of(nodes);
            let mut cases = rows.map(|Row { kind, route }| {
                let candidate = match kind {
                    Kind::ByHand => &by_hand,
                    Kind::Gateway => &gateway,
                };
                let load = self.load(candidate, route, CONNECTIONS);
                Case { candidate, load }
            });
            assert_same(&mut cases);
            all.extend(rows.into_iter().zip(compare(&mut cases, slices)?));
        }
        Ok(all)
    }

    /// Measures the memory of a candidate without requests and with many.
    pub(crate) fn memory(&self, kind: Kind, mode: Mode<'_>) -> io::Result<Memory> {
        let candidate = self.start(kind, mode)?;
        let warm_up = Route::new(Route::SLOW.nodes, false);
        self.load(&candidate, warm_up, 1).send(100);
        let load = || self.load(&candidate, Route::SLOW, IN_FLIGHT);
        memory(&candidate, load, IN_FLIGHT)
    }
}

/// Asserts that the gateway returns the values of all nodes, as the hand-written fan-out, the first case, does.
fn assert_same(cases: &mut [Case<'_>]) {
    let documents = cases.iter_mut().map(|case| {
        let document = serde_json::from_slice(&case.load.send(1));
        document.expect("the document is JSON")
    });
    let documents: Vec<Value> = documents.collect();
    let nodes = documents[0].as_object().expect("the first is an object");
    for document in &documents[1..] {
        for (node, value) in nodes {
            let same = document.pointer(&format!("/data/services/{node}/data"));
            assert_eq!(same, Some(value), "{node}");
        }
    }
}

/// Returns the path of the gateway: that of `--binary`, or of the release build in the target folder of this bench.
fn binary() -> io::Result<PathBuf> {
    let binary = match after("--binary") {
        Some(path) => path.into(),
        None => {
            let bench = std::env::current_exe()?;
            // The bench is `target/PROFILE/deps/gateway-HASH`.
            let target = bench.ancestors().nth(3).unwrap_or(Path::new("target"));
            target.join("release/fanout")
        }
    };
    if binary.is_file() {
        return Ok(binary);
    }
    let path = binary.display();
    Err(io::Error::other(format!(
        "{path} is missing: run \"cargo build --release\", or pass --binary PATH"
    )))
}
