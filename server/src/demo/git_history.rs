//! The history of a clone as events of a workflow: real work, with the times at which people did it.

use std::path::Path;
use std::process::Command;

use millstream::time::SECOND;
use millstream_proto::v1::{Status, WorkflowEvent};

use super::stream::timestamp;

/// The commits that HEAD reaches, oldest first; or why there are none.
pub fn commits(dir: &Path) -> Result<Vec<WorkflowEvent>, String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(["-c", "log.showSignature=false", "log", "--reverse", "--format=%H%x1f%an%x1f%at%x1f%P%x1f%s"])
        .output()
        .map_err(|e| format!("git does not run: {e}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(why.lines().next().unwrap_or("git log failed").to_string());
    }
    let repository = dir.canonicalize().ok().and_then(|d| d.file_name().map(|n| n.to_string_lossy().into_owned()));
    let repository = repository.unwrap_or_default();
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| commit(line, &repository)).collect())
}

fn commit(line: &str, repository: &str) -> Option<WorkflowEvent> {
    let mut fields = line.split('\u{1f}');
    let (id, author, seconds, parents, subject) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let time = seconds.parse::<i64>().ok()?.checked_mul(SECOND)?;
    let parents = parents.split_whitespace().count().to_string();
    Some(WorkflowEvent {
        event_id: format!("commit-{id}"),
        event_time: timestamp(time),
        user_id: author.to_string(),
        name: "commit".to_string(),
        workflow: "git".to_string(),
        run_id: id.to_string(),
        status: Status::Ok.into(),
        repository: repository.to_string(),
        properties: [("parents".to_string(), parents), ("subject".to_string(), subject.to_string())].into(),
        ..WorkflowEvent::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_becomes_an_event() {
        let event = commit("abc\u{1f}Ada\u{1f}1700000000\u{1f}p1 p2\u{1f}Merge: x", "clone").unwrap();
        assert_eq!((event.run_id.as_str(), event.user_id.as_str()), ("abc", "Ada"));
        assert_eq!(event.event_time.unwrap().seconds, 1_700_000_000);
        assert_eq!(event.properties["parents"], "2");
        assert_eq!(commit("no fields", "clone"), None);
    }

    #[test]
    fn a_folder_without_git_says_why() {
        assert!(commits(Path::new("/nowhere")).is_err());
    }
}
