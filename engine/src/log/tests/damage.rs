//! A log that was cut short, or whose bytes are not what was written.

use super::*;

/// A disk with the entries "0", "1", ... "4" in one segment, each in its own group; gives where each frame begins, and the
/// file.
fn five_entries() -> (SimFs, Vec<usize>, Vec<u8>, PathBuf) {
    let fs = SimFs::new();
    let path = Path::new(DIR).join("00000000000000000000.log");
    let mut log = Stepped::open(&fs, never_fatal(), &ManualClock::at(0)).unwrap();
    let mut starts = Vec::new();
    for n in 0..5u64 {
        starts.push(fs.len(&path).unwrap_or(0) as usize);
        log.append(entry("p", Some((1, n + 1)), &[&n.to_string()])).unwrap();
    }
    drop(log);
    let bytes = fs.read(&path).unwrap();
    (fs, starts, bytes, path)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off_and_the_log_goes_on() {
    let (_, starts, bytes, path) = five_entries();
    let last = starts[4];
    for end in last..bytes.len() {
        for garbage in [&[][..], &[0; 100], &[0xff; 64]] {
            if garbage.first() == Some(&0) && bytes[end..].iter().all(|b| *b == 0) {
                // The zeros are the missing end of the frame: it is whole.
                continue;
            }
            let fs = SimFs::new();
            fs.put(&path, &[&bytes[..end], garbage].concat());
            let mut log = Stepped::open(&fs, never_fatal(), &ManualClock::at(0)).unwrap();
            assert_eq!(log.log.end(), 4, "cut at {end}");
            assert_eq!(log.append(entry("p", Some((1, 5)), &["again"])).unwrap(), ack(4, 1, 0), "cut at {end}");
            drop(log);
            let log = Stepped::open(&fs, never_fatal(), &ManualClock::at(0)).unwrap();
            assert_eq!(contents(&log.log), [["0"], ["1"], ["2"], ["3"], ["again"]]);
        }
    }
}

#[test]
fn a_flipped_bit_before_the_last_entry_is_refused_by_name() {
    let (_, starts, bytes, path) = five_entries();
    for byte in 0..starts[3] {
        let fs = SimFs::new();
        fs.put(&path, &bytes);
        fs.flip_bit(&path, byte, byte as u32 % 8);
        let opened = Stepped::open(&fs, never_fatal(), &ManualClock::at(0));
        if (24..32).contains(&byte) {
            assert!(opened.is_ok(), "the header's padding means nothing");
            continue;
        }
        let Err(Error::Corrupt(message)) = opened.map(|log| log.log.end()) else {
            panic!("byte {byte} was not refused");
        };
        let entry = starts[1..].iter().filter(|start| **start <= byte).count();
        assert!(message.contains(&format!("{} is damaged at byte", path.display())), "{message}");
        assert!(message.contains(&format!("entry {entry}: ")), "byte {byte}: {message}");
        assert!(message.contains("restore the file from a backup"), "{message}");
    }
}

#[test]
fn after_an_orderly_close_not_even_the_last_entry_can_be_damaged_unseen() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_disk(dir.path(), never_fatal());
    log.append(entry("p", None, &["a"])).unwrap().wait().unwrap();
    drop(log);
    let path = dir.path().join("00000000000000000000.log");
    let bytes = std::fs::read(&path).unwrap();
    for byte in (32..bytes.len() - 64).step_by(5) {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 4;
        std::fs::write(&path, &damaged).unwrap();
        let opened = Log::open(Arc::new(DiskFs), dir.path(), never_fatal(), Arc::new(ManualClock::at(0)));
        assert!(matches!(opened, Err(Error::Corrupt(_))), "byte {byte}");
    }
}

#[test]
fn a_damaged_missing_or_foreign_segment_is_refused_by_name() {
    let options = LogOptions { segment_bytes_max: 1, ..never_fatal() };
    let three_segments = || {
        let fs = SimFs::new();
        let mut log = Stepped::open(&fs, options.clone(), &ManualClock::at(0)).unwrap();
        for n in 1..=3 {
            log.append(entry("p", Some((1, n)), &["a"])).unwrap();
        }
        fs
    };
    let path = |n: u64| Path::new(DIR).join(format!("{n:020}.log"));
    let refusal =
        |fs: &SimFs| Stepped::open(fs, options.clone(), &ManualClock::at(0)).map(|_| ()).unwrap_err().to_string();

    let fs = three_segments();
    fs.flip_bit(&path(1), fs.len(&path(1)).unwrap() as usize - 20, 0);
    assert!(refusal(&fs).contains("00000000000000000001.log is damaged at byte"), "{}", refusal(&fs));

    let fs = three_segments();
    fs.remove(&path(1)).unwrap();
    assert!(refusal(&fs).contains("has no segment for the entries 1 to 1"), "{}", refusal(&fs));

    let fs = three_segments();
    let mut newer = segment::header(2);
    newer[8] = 2;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&newer[..12]);
    crc.update(&newer[16..24]);
    newer[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    fs.put(&path(2), &newer);
    assert!(refusal(&fs).contains("written in format 2, and this program reads format 1"), "{}", refusal(&fs));

    let fs = three_segments();
    fs.put(&path(3), &[]);
    let mut log = Stepped::open(&fs, options.clone(), &ManualClock::at(0)).unwrap();
    assert_eq!(
        log.append(entry("p", Some((1, 4)), &["a"])).unwrap(),
        ack(3, 1, 0),
        "an empty newest file is a cut start"
    );
}
