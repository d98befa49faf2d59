//! `status`: how the keystore is. Trouble with the audit log makes the exit code 1.

use std::fmt::Write;

use super::answer::{Answer, Good};
use super::connection::Connection;
use crate::api::status::{CeremonyStatus, SealStatus, Status};
use crate::audit::Ceremony;
use crate::server::{Phase, Warning};

pub(super) async fn run(connection: &Connection) -> anyhow::Result<Answer> {
    let session = connection.open()?;
    let status: Status = session.client.get("/v1/status").await?;
    let mut text = String::new();
    describe(&status, &mut text)?;
    let good = match status.audit.trouble {
        None => Good::Yes,
        Some(_) => Good::No,
    };
    Ok(Answer::new(text, &status)?.but(good))
}

fn describe(status: &Status, text: &mut String) -> std::fmt::Result {
    writeln!(
        text,
        "keystore   {} (version {})",
        phase(status.phase),
        status.version
    )?;
    if let Some(seal) = &status.seal {
        describe_seal(seal, text)?;
    }
    if let Some(ceremony) = &status.ceremony {
        describe_ceremony(ceremony, text)?;
    }
    if let Some(key) = &status.data_key {
        writeln!(
            text,
            "data key   {}, generation {} of the database",
            key.term, key.generation
        )?;
    }
    let audit = &status.audit;
    writeln!(text, "audit log  line {}, {}", audit.sequence, audit.hash)?;
    if let Some(trouble) = &audit.trouble {
        writeln!(text, "           {trouble}")?;
    }
    match &status.newest_snapshot {
        Some(taken) => writeln!(text, "snapshot   {taken:.0}")?,
        None => writeln!(text, "snapshot   none yet")?,
    }
    for warning in &status.warnings {
        writeln!(text, "warning    {}", warned(*warning))?;
    }
    Ok(())
}

fn describe_seal(seal: &SealStatus, text: &mut String) -> std::fmt::Result {
    writeln!(text, "cluster    {}", seal.cluster)?;
    let count = seal.holders.len();
    writeln!(
        text,
        "shares     {} of {count}, epoch {}",
        seal.threshold, seal.epoch
    )?;
    for held in &seal.holders {
        writeln!(text, "           {}: {}", held.number, held.holder)?;
    }
    if let Some(trial) = &seal.trial {
        writeln!(text, "           {trial}")?;
    }
    Ok(())
}

fn numbers(shares: &[u8]) -> String {
    let numbers: Vec<String> = shares.iter().map(u8::to_string).collect();
    match numbers.is_empty() {
        true => "none".to_owned(),
        false => numbers.join(", "),
    }
}

fn describe_ceremony(ceremony: &CeremonyStatus, text: &mut String) -> std::fmt::Result {
    let kind = match ceremony.kind {
        Ceremony::Unseal => "unseal",
        Ceremony::Reshare => "reshare",
    };
    let have = numbers(&ceremony.have);
    let need = ceremony.need;
    writeln!(
        text,
        "ceremony   {kind} {}: {need} shares needed, entered: {have}",
        ceremony.ceremony
    )?;
    if ceremony.approvals_needed > 0 {
        writeln!(
            text,
            "           {} holders of old shares have to agree, agreed: {}",
            ceremony.approvals_needed,
            numbers(&ceremony.approved)
        )?;
    }
    match &ceremony.expires {
        Some(end) => writeln!(text, "           ends {end:.0}"),
        None => Ok(()),
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Uninitialised => "not initialised",
        Phase::Sealed => "sealed",
        Phase::Unsealed => "open",
    }
}

fn warned(warning: Warning) -> &'static str {
    match warning {
        Warning::PersonsChangedOutside => {
            "the table of persons was changed behind the server's back; look at operator list"
        }
        Warning::DatabaseRolledBack => {
            "the database is older than the audit log says; look for who put an old one back"
        }
        Warning::AuditLogCutShort => {
            "the audit log lacks a line that the database remembers; compare it with an outside copy"
        }
        Warning::SnapshotOverdue => {
            "there is no new snapshot; run: holdfast-keystore snapshot save FILE"
        }
        Warning::MemoryNotLocked => {
            "memory is not locked, so keys could be swapped out; set LimitMEMLOCK=infinity"
        }
    }
}
