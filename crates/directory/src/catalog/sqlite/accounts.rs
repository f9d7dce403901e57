//! What is written about accounts, invites and sessions.

use rusqlite::{OptionalExtension, params};
use wire::Username;

use super::{
    delta,
    roster::{self, Effect},
    writer::{JobError, Tx},
};
use crate::{
    catalog::{CatalogError, Login, Renewal},
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

pub(super) fn disable_account(tx: &mut Tx<'_>, username: &Username, now: i64) -> Result<(), JobError> {
    let known = tx
        .conn
        .prepare_cached("UPDATE accounts SET disabled = 1 WHERE username = ?1")?
        .execute([username.as_str()])?;
    if known == 0 {
        return Err(JobError::Refused(CatalogError::NotFound("the account")));
    }
    let rows: Vec<i64> = tx
        .conn
        .prepare_cached("SELECT id FROM peers WHERE username = ?1 AND token IS NOT NULL")?
        .query_map([username.as_str()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    rows.into_iter().try_for_each(|row| logout(tx, row, now))
}

/// `most` is how many peers an account may have.
pub(super) fn login(tx: &mut Tx<'_>, login: &Login, most: u64) -> Result<u64, JobError> {
    let mut open = tx.conn.prepare_cached("SELECT 1 FROM accounts WHERE username = ?1 AND disabled = 0")?;
    if !open.exists([login.username.as_str()])? {
        // Disabled between the check of the password and here.
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
        Some((row, _)) => {
            if !same_account {
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
                         revision, files, restricted)
                     VALUES (?1, '', '', '[]', '', 0, 0, 0, 0, 0)",
                )?
                .execute([login.peer_id.as_bytes()])?;
            tx.conn.last_insert_rowid()
        }
    };
    tx.conn
        .prepare_cached(
            "UPDATE peers SET username = ?2, token = ?3, sealing_key = ?4, endpoints = ?5, version = ?6,
                 lease_until = ?7, last_seen = ?8 WHERE id = ?1",
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
