//! Reading what is in Xenstore of what a schema owns.

use std::collections::{BTreeMap, BTreeSet};

use xenstore::{Connection, Error, Path, Request, RequestId, wire};

use super::change::Known;
use crate::schema::layout::{Claim, Layout, Upkeep};

/// How much of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// What no watch covers.
    Compared,
    /// What a watch covers, too.
    Kept,
    /// All, with what is written again from time to time.
    All,
}

/// A survey under way: requests that wait for their replies, and what those told.
#[derive(Debug)]
pub(super) struct Survey {
    layout: &'static Layout,
    scope: Scope,
    /// Trees to read besides.
    owned: BTreeSet<Path>,
    asked: BTreeMap<RequestId, Asked>,
    found: Known,
}

#[derive(Debug)]
enum Asked {
    /// The children of a node, some of which are claimed.
    Claimed(&'static str),
    /// The children of a node in a claimed tree.
    Below(Path),
    /// The value of a node.
    Value(Path),
}

impl Survey {
    /// Asks for what stands directly above the claims, and for the trees of `owned`.
    pub(super) fn begin(
        layout: &'static Layout,
        owned: &BTreeSet<Path>,
        scope: Scope,
        connection: &mut Connection,
    ) -> Result<Self, Error> {
        let mut survey = Survey {
            layout,
            scope,
            owned: owned.clone(),
            asked: BTreeMap::new(),
            found: Known::new(),
        };
        let parents: BTreeSet<_> = survey.claims().map(|claim| claim.parent).collect();
        for parent in parents {
            survey.ask(Request::list(parent)?, Asked::Claimed(parent), connection)?;
        }
        for tree in owned {
            survey.look(tree.to_string(), true, connection)?;
        }
        Ok(survey)
    }

    /// What is rewritten from time to time is not read for a comparison, and so taken for missing.
    fn claims(&self) -> impl Iterator<Item = &'static Claim> + use<> {
        let scope = self.scope;
        self.layout
            .claims
            .iter()
            .filter(move |claim| match claim.upkeep {
                Upkeep::Polled => true,
                Upkeep::Watched => scope >= Scope::Kept,
                Upkeep::Rewritten => scope == Scope::All,
            })
    }

    fn ask(
        &mut self,
        request: Request,
        asked: Asked,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        let id = connection.submit(request)?;
        self.asked.insert(id, asked);
        Ok(())
    }

    /// Takes a reply. What cannot be read is not there, for all that the agent can do about it.
    pub(super) fn on_reply(
        &mut self,
        id: RequestId,
        result: &Result<Vec<u8>, Error>,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        let Some(asked) = self.asked.remove(&id) else {
            return Ok(());
        };
        let Ok(payload) = result else { return Ok(()) };
        let names = || wire::strings(payload).filter_map(|name| std::str::from_utf8(name).ok());
        match asked {
            Asked::Value(path) => drop(self.found.insert(path, payload.clone())),
            Asked::Claimed(parent) => {
                for name in names() {
                    for claim in self
                        .claims()
                        .filter(|claim| claim.parent == parent && claim.covers(name))
                    {
                        self.look(format!("{parent}/{name}"), claim.is_tree, connection)?;
                    }
                }
            }
            Asked::Below(path) => {
                for name in names() {
                    self.look(format!("{path}/{name}"), true, connection)?;
                }
            }
        }
        Ok(())
    }

    fn look(
        &mut self,
        path: String,
        is_tree: bool,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        // A name that is no path cannot be asked for.
        let Ok(path) = Path::new(path) else {
            return Ok(());
        };
        self.ask(
            Request::read(&path)?,
            Asked::Value(path.clone()),
            connection,
        )?;
        if is_tree {
            self.ask(Request::list(&path)?, Asked::Below(path), connection)?;
        }
        Ok(())
    }

    /// Whether all replies are there.
    pub(super) fn is_complete(&self) -> bool {
        self.asked.is_empty()
    }

    /// Puts what was found in the place of what was known.
    pub(super) fn finish(self, known: &mut Known) {
        let rewritten = |claim: &&Claim| claim.upkeep == Upkeep::Rewritten;
        let claims: Vec<_> = self
            .claims()
            .chain(self.layout.claims.iter().filter(rewritten))
            .collect();
        let is_read = |path: &Path| {
            claims.iter().any(|claim| claim.owns(path))
                || self.owned.iter().any(|tree| path.is_at_or_below(tree))
        };
        known.retain(|path, _| !is_read(path));
        known.extend(self.found);
    }
}
