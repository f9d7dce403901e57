//! What is written about accounts, invites and sessions, and whose certificates are refused since.

use rusqlite::{Connection, OptionalExtension, params};
use wire::{PeerId, Username, rest::accounts::Revoked};

use super::{
    delta, groups,
    locate::time,
    roster::{self, Effect},
    writer::{JobError, Tx},
};
use crate::{
    catalog::{CatalogError, Login, Renewal, RevokedCursor},
    leases,
    secrets::Digest256,
};

pub(super) fn create_account(
    tx: &mut Tx<'_>,
    username: &Username,
    password_hash: &str,
    invite: Option<Digest256>,
    now: i64,
) -> Result<(), JobError> {
    let mut taken = tx.conn.prepare_cached("SELECT 1 FROM accounts WHERE username = ?1")?;
    if taken.exists([username.as_str()])? {
        return Err(JobError::Refused(CatalogError::Taken));
    }
    if let Some(invite) = invite {
        let used = tx
            .conn
            .prepare_cached(
                "UPDATE invites SET uses = uses - 1 WHERE digest = ?1 AND uses > 0 AND expires_at > ?2",
            )?
            .execute(params![invite, now])?;
        if used == 0 {
            return Err(JobError::Refused(CatalogError::Invite));
        }
    }
    tx.conn
        .prepare_cached(
            "INSERT INTO accounts (username, password_hash, disabled, created_at) VALUES (?1, ?2, 0, ?3)",
        )?
        .execute(params![username.as_str(), password_hash, now])?;
    Ok(())
}

/// Also forgets the invites that can no longer be used.
pub(super) fn create_invite(
    tx: &mut Tx<'_>,
    invite: Digest256,
    uses: u32,
    expires_at: i64,
    now: i64,
) -> Result<(), JobError> {
    tx.conn.prepare_cached("DELETE FROM invites WHERE uses = 0 OR expires_at <= ?1")?.execute([now])?;
    tx.conn
        .prepare_cached("INSERT INTO invites (digest, uses, expires_at) VALUES (?1, ?2, ?3)")?
        .execute(params![invite, uses, expires_at])?;
    Ok(())
}

/// Ends the account's sessions; what certificates there are is refused from now on.
pub(super) fn disable_account(tx: &mut Tx<'_>, username: &Username, now: i64) -> Result<(), JobError> {
    let known = tx
        .conn
        .prepare_cached("UPDATE accounts SET disabled = 1 WHERE username = ?1")?
        .execute([username.as_str()])?;
    if known == 0 {
        return Err(JobError::Refused(CatalogError::NotFound("the account")));
    }
    end_all(tx, username, None, now)?;
    revoke(tx, username, WHOLE_ACCOUNT, now)?;
    Ok(())
}

/// The account may log in again. What it had before the end stays ended.
pub(super) fn enable_account(tx: &mut Tx<'_>, username: &Username) -> Result<(), JobError> {
    let known = tx
        .conn
        .prepare_cached("UPDATE accounts SET disabled = 0 WHERE username = ?1")?
        .execute([username.as_str()])?;
    if known == 0 {
        return Err(JobError::Refused(CatalogError::NotFound("the account")));
    }
    pardon(tx, username, WHOLE_ACCOUNT)?;
    Ok(())
}

/// Ends all sessions but `keep`'s: whoever has the old password has nothing any more.
pub(super) fn set_password(
    tx: &mut Tx<'_>,
    username: &Username,
    password_hash: &str,
    keep: Option<PeerId>,
    now: i64,
) -> Result<(), JobError> {
    let known = tx
        .conn
        .prepare_cached("UPDATE accounts SET password_hash = ?2 WHERE username = ?1")?
        .execute([username.as_str(), password_hash])?;
    if known == 0 {
        return Err(JobError::Refused(CatalogError::NotFound("the account")));
    }
    end_all(tx, username, keep, now)
}

/// Ends the session of one of the account's own peers, if it has one, and refuses its certificates.
pub(super) fn end_session(
    tx: &mut Tx<'_>,
    username: &Username,
    peer: PeerId,
    now: i64,
) -> Result<(), JobError> {
    let row: Option<i64> = tx
        .conn
        .prepare_cached("SELECT id FROM peers WHERE peer_id = ?1 AND username = ?2")?
        .query_row(params![peer.as_bytes(), username.as_str()], |row| row.get(0))
        .optional()?;
    let Some(row) = row else { return Err(JobError::Refused(CatalogError::NotFound("the session"))) };
    end(tx, row, username, peer.as_bytes(), now)
}

fn end_all(tx: &mut Tx<'_>, username: &Username, keep: Option<PeerId>, now: i64) -> Result<(), JobError> {
    let peers: Vec<(i64, [u8; 16])> = tx
        .conn
        .prepare_cached("SELECT id, peer_id FROM peers WHERE username = ?1")?
        .query_map([username.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let others = peers.into_iter().filter(|(_, id)| keep.is_none_or(|keep| keep.as_bytes() != id));
    others.into_iter().try_for_each(|(row, id)| end(tx, row, username, &id, now))
}

/// The end by force: unlike after a logout, nobody is to send this peer anything.
fn end(tx: &mut Tx<'_>, row: i64, username: &Username, peer: &[u8], now: i64) -> Result<(), JobError> {
    tx.conn
        .prepare_cached("UPDATE peers SET sealing_key = '', endpoints = '[]' WHERE id = ?1")?
        .execute([row])?;
    logout(tx, row, now)?;
    revoke(tx, username, peer, now)
}

/// In the place of a peer's id: all of the account's.
const WHOLE_ACCOUNT: &[u8] = &[];

/// Also forgets those whose certificates have all ended.
fn revoke(tx: &mut Tx<'_>, username: &Username, peer: &[u8], now: i64) -> Result<(), JobError> {
    tx.conn.prepare_cached("DELETE FROM revocations WHERE until <= ?1")?.execute([now])?;
    tx.conn
        .prepare_cached("INSERT OR REPLACE INTO revocations (username, peer, until) VALUES (?1, ?2, ?3)")?
        .execute(params![username.as_str(), peer, leases::certificates_end(now)])?;
    groups::next_change(tx, true)?;
    Ok(())
}

pub(super) fn revoked(
    conn: &Connection,
    after: Option<&RevokedCursor>,
    limit: usize,
    now: i64,
) -> rusqlite::Result<Vec<Revoked>> {
    let bad = |column| rusqlite::Error::InvalidColumnType(column, String::new(), rusqlite::types::Type::Blob);
    let mut statement = conn.prepare_cached(
        "SELECT username, peer, until FROM revocations
         WHERE (username, peer) > (?1, ?2) AND until > ?3 ORDER BY username, peer LIMIT ?4",
    )?;
    let (username, peer) = match after {
        None => ("", None),
        Some((username, peer)) => (username.as_str(), peer.as_ref()),
    };
    let peer = peer.map_or(WHOLE_ACCOUNT, |peer| peer.as_bytes());
    let mut rows = statement.query(params![username, peer, now, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let peer = match row.get_ref(1)?.as_blob()? {
            WHOLE_ACCOUNT => None,
            bytes => Some(PeerId::try_from(bytes).map_err(|_| bad(1))?),
        };
        let username = row.get::<_, String>(0)?.parse().map_err(|_| bad(0))?;
        found.push(Revoked { peer_id: peer, username, until: time(row.get(2)?) });
    }
    Ok(found)
}

fn pardon(tx: &mut Tx<'_>, username: &Username, peer: &[u8]) -> Result<(), JobError> {
    let revoked = tx
        .conn
        .prepare_cached("DELETE FROM revocations WHERE username = ?1 AND peer = ?2")?
        .execute(params![username.as_str(), peer])?;
    if revoked > 0 {
        groups::next_change(tx, true)?;
    }
    Ok(())
}

/// `most` is how many peers an account may have.
pub(super) fn login(tx: &mut Tx<'_>, login: &Login, most: u64) -> Result<u64, JobError> {
    let mut open = tx.conn.prepare_cached(
        "SELECT 1 FROM accounts WHERE username = ?1 AND password_hash = ?2 AND disabled = 0",
    )?;
    if !open.exists([login.username.as_str(), login.password_hash.as_str()])? {
        // Disabled, or given another password, between the check of the password and here.
        return Err(JobError::Refused(CatalogError::NotFound("the account")));
    }
    let known: Option<(i64, String)> = tx
        .conn
        .prepare_cached("SELECT id, username FROM peers WHERE peer_id = ?1")?
        .query_row([login.peer_id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let same_account = known.as_ref().is_some_and(|(_, username)| *username == login.username.as_str());
    if !same_account {
        let peers: u64 = tx
            .conn
            .prepare_cached("SELECT count(*) FROM peers WHERE username = ?1")?
            .query_row([login.username.as_str()], |row| row.get(0))?;
        if peers >= most {
            metrics::counter!("directory_refusals_total", "reason" => "peers").increment(1);
            return Err(JobError::Refused(CatalogError::Limit(format!(
                "an account has at most {most} peers here (DIRECTORY_MAX_PEERS_PER_ACCOUNT)"
            ))));
        }
    }
    let row = match known {
        Some((row, former)) => {
            if !same_account {
                // Its certificate for the former account still holds, and is no longer that account's.
                if let Ok(former) = former.parse() {
                    revoke(tx, &former, login.peer_id.as_bytes(), login.now)?;
                }
                delta::clear(tx, row)?;
                tx.conn
                    .prepare_cached("UPDATE peers SET revision = 0, files = 0, restricted = 0 WHERE id = ?1")?
                    .execute([row])?;
            }
            row
        }
        None => {
            tx.conn
                .prepare_cached(
                    "INSERT INTO peers (peer_id, username, sealing_key, endpoints, version, lease_until, last_seen,
                             revision, files, restricted, logged_in_at)
                     VALUES (?1, '', '', '[]', '', 0, 0, 0, 0, 0, 0)",
                )?
                .execute([login.peer_id.as_bytes()])?;
            tx.conn.last_insert_rowid()
        }
    };
    tx.conn
        .prepare_cached(
            "UPDATE peers SET username = ?2, token = ?3, sealing_key = ?4, endpoints = ?5, version = ?6,
                 lease_until = ?7, last_seen = ?8, logged_in_at = ?8 WHERE id = ?1",
        )?
        .execute(params![
            row,
            login.username.as_str(),
            login.token,
            login.sealing_key,
            json(&login.endpoints),
            login.version,
            login.lease_until,
            login.now
        ])?;
    pardon(tx, &login.username, login.peer_id.as_bytes())?;
    let entry = roster::read_row(tx.conn, row)?;
    let revision = entry.revision.load(std::sync::atomic::Ordering::Relaxed);
    tx.effects.push(Effect::Peer(Box::new(entry)));
    Ok(revision)
}

/// A renewal that meets a session which has ended meanwhile renews nothing.
pub(super) fn renew(tx: &mut Tx<'_>, row: i64, renewal: &Renewal) -> Result<u64, JobError> {
    let Renewal { endpoints, sealing_key, now, lease_until } = renewal;
    let revision: Option<u64> = tx
        .conn
        .prepare_cached(
            "UPDATE peers SET lease_until = ?2, last_seen = ?3 WHERE id = ?1 AND token IS NOT NULL RETURNING revision",
        )?
        .query_row(params![row, lease_until, now], |row| row.get(0))
        .optional()?;
    let Some(revision) = revision else {
        return Err(JobError::Refused(CatalogError::NotFound("the session")));
    };
    if endpoints.is_none() && sealing_key.is_none() {
        tx.effects.push(Effect::Lease { row, last_seen: *now, lease_until: *lease_until });
        return Ok(revision);
    }
    tx.conn
        .prepare_cached(
            "UPDATE peers SET endpoints = coalesce(?2, endpoints), sealing_key = coalesce(?3, sealing_key) WHERE id = ?1",
        )?
        .execute(params![row, endpoints.as_deref().map(json), sealing_key])?;
    tx.effects.push(Effect::Peer(Box::new(roster::read_row(tx.conn, row)?)));
    Ok(revision)
}

pub(super) fn logout(tx: &mut Tx<'_>, row: i64, now: i64) -> Result<(), JobError> {
    tx.conn
        .prepare_cached("UPDATE peers SET token = NULL, lease_until = 0, last_seen = ?2 WHERE id = ?1")?
        .execute(params![row, now])?;
    tx.effects.push(Effect::Peer(Box::new(roster::read_row(tx.conn, row)?)));
    Ok(())
}

fn json(endpoints: &[String]) -> String {
    serde_json::to_string(endpoints).unwrap_or_else(|_| "[]".to_owned())
}
