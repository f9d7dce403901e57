//! Groups of users, in memory as the roster is, and what is written about them.
//!
//! A restricted entry may name groups; whether somebody belongs to one is then asked for each row that is looked at, so
//! it must be a lookup and no query. What a change does is seen by the next request.
//!
//! A name belongs to its first owner for ever, also when the group is deleted: otherwise whoever took the name next
//! would choose who sees the files of those who still write it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound::{Excluded, Unbounded},
    sync::atomic::{AtomicI64, Ordering::Relaxed},
};

use parking_lot::RwLock;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use wire::{GroupName, Username, rest::accounts};

use super::{
    roster::Effect,
    writer::{JobError, Tx},
};
use crate::catalog::{CatalogError, MAX_GROUPS_PER_OWNER};

/// A JSON reader that keeps numbers as doubles reads these right.
const REVISION_BITS: u32 = 53;

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    owner: Username,
    members: BTreeSet<Username>,
    /// The number of its last change.
    revision: i64,
}

impl Group {
    pub(super) fn has(&self, user: &Username) -> bool {
        self.owner == *user || self.members.contains(user)
    }

    pub(super) fn to_rest(&self, name: &GroupName) -> accounts::Group {
        accounts::Group {
            name: name.clone(),
            owner: self.owner.clone(),
            members: self.members.iter().cloned().collect(),
        }
    }

    fn everybody(&self) -> impl Iterator<Item = &Username> {
        let owner = Some(&self.owner).filter(|owner| !self.members.contains(*owner));
        self.members.iter().chain(owner)
    }
}

/// All groups, and the number of the last change of revocations.
#[derive(Debug, Default)]
pub(super) struct Groups {
    maps: RwLock<Maps>,
    revoked: AtomicI64,
}

#[derive(Debug, Default)]
struct Maps {
    by_name: HashMap<GroupName, Arc<Group>>,
    of_user: HashMap<Username, Mine>,
}

/// The groups that somebody owns or belongs to.
#[derive(Debug, Default)]
struct Mine {
    names: BTreeSet<GroupName>,
    /// The sum of what stands for each of them, so that it is the same whatever led there.
    sum: u64,
}

impl Groups {
    pub(super) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let bad =
            |column| rusqlite::Error::InvalidColumnType(column, String::new(), rusqlite::types::Type::Text);
        let mut members: BTreeMap<String, BTreeSet<Username>> = BTreeMap::new();
        let mut statement = conn.prepare("SELECT of_group, username FROM members")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let user = row.get::<_, String>(1)?.parse().map_err(|_| bad(1))?;
            members.entry(row.get(0)?).or_default().insert(user);
        }
        let mut maps = Maps::default();
        let mut statement = conn.prepare("SELECT name, owner, revision FROM groups WHERE deleted = 0")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let text: String = row.get(0)?;
            let group = Group {
                owner: row.get::<_, String>(1)?.parse().map_err(|_| bad(1))?,
                members: members.remove(&text).unwrap_or_default(),
                revision: row.get(2)?,
            };
            maps.replace(&text.parse().map_err(|_| bad(0))?, Some(group));
        }
        let revoked = conn.query_row("SELECT revoked FROM trust", [], |row| row.get(0))?;
        Ok(Self { maps: RwLock::new(maps), revoked: AtomicI64::new(revoked) })
    }

    /// Takes out and takes over what concerns groups.
    pub(super) fn apply(&self, effects: &mut Vec<Effect>) {
        let ours = |effect: &mut Effect| matches!(effect, Effect::Group(..) | Effect::Revoked(_));
        for effect in effects.extract_if(.., ours) {
            match effect {
                Effect::Group(name, group) => self.maps.write().replace(&name, group.map(|group| *group)),
                Effect::Revoked(number) => self.revoked.store(number, Relaxed),
                _ => {}
            }
        }
    }

    /// The group, for whom it exists.
    pub(super) fn seen_by(&self, name: &GroupName, viewer: &Username) -> Option<Arc<Group>> {
        self.maps.read().by_name.get(name).filter(|group| group.has(viewer)).cloned()
    }

    /// Those that `viewer` owns or belongs to, by name.
    pub(super) fn of(
        &self,
        viewer: &Username,
        after: Option<&GroupName>,
        limit: usize,
    ) -> Vec<(GroupName, Arc<Group>)> {
        let maps = self.maps.read();
        let Some(mine) = maps.of_user.get(viewer) else { return Vec::new() };
        let from = after.map_or(Unbounded, Excluded);
        let found = mine.names.range::<GroupName, _>((from, Unbounded)).take(limit);
        found.filter_map(|name| Some((name.clone(), maps.by_name.get(name)?.clone()))).collect()
    }

    /// Whether the group shows what `owner` shares with it to `viewer`: both must belong to it.
    pub(super) fn admits(&self, group: &str, owner: &Username, viewer: &Username) -> bool {
        self.maps.read().by_name.get(group).is_some_and(|group| group.has(owner) && group.has(viewer))
    }

    /// Another number whenever revocations, or groups that `viewer` sees, are others. It depends on nothing else, so it
    /// tells nobody of groups that are not theirs.
    pub(super) fn trust_revision(&self, viewer: &Username) -> u64 {
        let sum = self.maps.read().of_user.get(viewer).map_or(0, |mine| mine.sum);
        let revoked = stands_for("", self.revoked.load(Relaxed));
        // 0 stands for "not heard yet".
        (revoked.wrapping_add(sum) >> (u64::BITS - REVISION_BITS)).max(1)
    }
}

impl Maps {
    fn replace(&mut self, name: &GroupName, group: Option<Group>) {
        if let Some(old) = self.by_name.remove(name) {
            let sign = stands_for(name.as_str(), old.revision);
            for user in old.everybody() {
                if let Some(mine) = self.of_user.get_mut(user) {
                    mine.names.remove(name);
                    mine.sum = mine.sum.wrapping_sub(sign);
                    if mine.names.is_empty() {
                        self.of_user.remove(user);
                    }
                }
            }
        }
        let Some(group) = group else { return };
        let sign = stands_for(name.as_str(), group.revision);
        for user in group.everybody() {
            let mine = self.of_user.entry(user.clone()).or_default();
            mine.names.insert(name.clone());
            mine.sum = mine.sum.wrapping_add(sign);
        }
        self.by_name.insert(name.clone(), Arc::new(group));
    }
}

fn stands_for(name: &str, revision: i64) -> u64 {
    let digest =
        Sha256::new().chain_update(name).chain_update([0]).chain_update(revision.to_be_bytes()).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

/// The number of a change of groups or, with `revoked`, of revocations.
pub(super) fn next_change(tx: &mut Tx<'_>, revoked: bool) -> rusqlite::Result<i64> {
    let number: i64 = tx
        .conn
        .prepare_cached(
            "UPDATE trust SET changes = changes + 1, revoked = iif(?1, changes + 1, revoked) RETURNING changes",
        )?
        .query_row([revoked], |row| row.get(0))?;
    if revoked {
        tx.effects.push(Effect::Revoked(number));
    }
    Ok(number)
}

pub(super) fn create(
    tx: &mut Tx<'_>,
    name: &GroupName,
    owner: &Username,
    members: BTreeSet<Username>,
) -> Result<(), JobError> {
    let known: Option<(String, bool)> = tx
        .conn
        .prepare_cached("SELECT owner, deleted FROM groups WHERE name = ?1")?
        .query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match &known {
        Some((first, true)) if *first == owner.as_str() => {}
        Some(_) => return Err(JobError::Refused(CatalogError::GroupTaken)),
        None => {
            let owned: u64 = tx
                .conn
                .prepare_cached("SELECT count(*) FROM groups WHERE owner = ?1")?
                .query_row([owner.as_str()], |row| row.get(0))?;
            if owned >= MAX_GROUPS_PER_OWNER {
                return Err(JobError::Refused(CatalogError::Limit(format!(
                    "an account has at most {MAX_GROUPS_PER_OWNER} names of groups, those of deleted ones counted"
                ))));
            }
        }
    }
    for member in &members {
        if !exists(tx, member)? {
            return Err(JobError::Refused(CatalogError::Limit(format!("there is no account `{member}`"))));
        }
    }
    let revision = next_change(tx, false)?;
    tx.conn
        .prepare_cached(
            "INSERT OR REPLACE INTO groups (name, owner, revision, deleted) VALUES (?1, ?2, ?3, 0)",
        )?
        .execute(params![name.as_str(), owner.as_str(), revision])?;
    for member in &members {
        tx.conn
            .prepare_cached("INSERT INTO members (of_group, username) VALUES (?1, ?2)")?
            .execute([name.as_str(), member.as_str()])?;
    }
    let group = Group { owner: owner.clone(), members, revision };
    tx.effects.push(Effect::Group(name.clone(), Some(Box::new(group))));
    Ok(())
}

pub(super) fn delete(tx: &mut Tx<'_>, name: &GroupName, caller: &Username) -> Result<(), JobError> {
    owned(tx, name, caller)?;
    let revision = next_change(tx, false)?;
    tx.conn
        .prepare_cached("UPDATE groups SET deleted = 1, revision = ?2 WHERE name = ?1")?
        .execute(params![name.as_str(), revision])?;
    tx.conn.prepare_cached("DELETE FROM members WHERE of_group = ?1")?.execute([name.as_str()])?;
    tx.effects.push(Effect::Group(name.clone(), None));
    Ok(())
}

/// A member that is there already, or not there any more, is no change.
pub(super) fn set_member(
    tx: &mut Tx<'_>,
    name: &GroupName,
    caller: &Username,
    member: &Username,
    belongs: bool,
) -> Result<(), JobError> {
    let mut group = owned(tx, name, caller)?;
    let changed = if belongs {
        if !exists(tx, member)? {
            return Err(JobError::Refused(CatalogError::NotFound("the account")));
        }
        if group.members.len() >= accounts::MAX_MEMBERS && !group.members.contains(member) {
            return Err(JobError::Refused(CatalogError::Limit(format!(
                "a group has at most {} members",
                accounts::MAX_MEMBERS
            ))));
        }
        tx.conn
            .prepare_cached("INSERT OR IGNORE INTO members (of_group, username) VALUES (?1, ?2)")?
            .execute([name.as_str(), member.as_str()])?
    } else {
        tx.conn
            .prepare_cached("DELETE FROM members WHERE of_group = ?1 AND username = ?2")?
            .execute([name.as_str(), member.as_str()])?
    };
    if changed == 0 {
        return Ok(());
    }
    if belongs {
        group.members.insert(member.clone());
    } else {
        group.members.remove(member);
    }
    group.revision = next_change(tx, false)?;
    tx.conn
        .prepare_cached("UPDATE groups SET revision = ?2 WHERE name = ?1")?
        .execute(params![name.as_str(), group.revision])?;
    tx.effects.push(Effect::Group(name.clone(), Some(Box::new(group))));
    Ok(())
}

/// The group as the transaction sees it, if the caller may change it.
fn owned(tx: &Tx<'_>, name: &GroupName, caller: &Username) -> Result<Group, JobError> {
    let unknown = || JobError::Refused(CatalogError::NotFound("the group"));
    let found: Option<(String, i64)> = tx
        .conn
        .prepare_cached("SELECT owner, revision FROM groups WHERE name = ?1 AND deleted = 0")?
        .query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((owner, revision)) = found else { return Err(unknown()) };
    let mut statement = tx.conn.prepare_cached("SELECT username FROM members WHERE of_group = ?1")?;
    let members: Vec<String> =
        statement.query_map([name.as_str()], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let read = |text: &str| text.parse::<Username>().map_err(|_| rusqlite::Error::InvalidQuery);
    let members: BTreeSet<Username> = members.iter().map(|text| read(text)).collect::<Result<_, _>>()?;
    let group = Group { owner: read(&owner)?, members, revision };
    if group.owner == *caller {
        return Ok(group);
    }
    Err(if group.has(caller) { JobError::Refused(CatalogError::NotYours) } else { unknown() })
}

fn exists(tx: &Tx<'_>, user: &Username) -> rusqlite::Result<bool> {
    tx.conn.prepare_cached("SELECT 1 FROM accounts WHERE username = ?1")?.exists([user.as_str()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Username {
        name.parse().unwrap()
    }

    fn group(owner: &str, members: &[&str], revision: i64) -> Option<Group> {
        Some(Group { owner: user(owner), members: members.iter().map(|name| user(name)).collect(), revision })
    }

    #[test]
    fn the_revision_is_another_for_whom_something_changed_and_for_nobody_else() {
        let groups = Groups::default();
        let revisions =
            |who: &[&str]| who.iter().map(|who| groups.trust_revision(&user(who))).collect::<Vec<_>>();
        let all = ["ana", "bob", "eve"];
        let before = revisions(&all);
        let lab: GroupName = "lab".parse().unwrap();
        let change = |to| groups.maps.write().replace(&lab, to);
        change(group("ana", &["bob"], 2));
        let with = revisions(&all);
        assert!(with[0] != before[0] && with[1] != before[1] && with[2] == before[2]);
        change(group("ana", &[], 3));
        let without = revisions(&all);
        assert!(without[0] != with[0] && without[1] == before[1] && without[2] == before[2]);
        change(None);
        assert_eq!(revisions(&all), before);
        assert!(groups.maps.read().of_user.is_empty());
        groups.apply(&mut vec![Effect::Revoked(4)]);
        assert!(revisions(&all).iter().zip(&before).all(|(now, before)| now != before));
        assert!(with.iter().all(|number| *number < 1 << 53));
    }
}
