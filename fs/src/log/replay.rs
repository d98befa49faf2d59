//! Replay: the log's records in order, one at a time.

use std::sync::Arc;

use super::open::{Plan, PlannedSegment, SegmentReader};
use super::record::{self, Record};
use super::segment::{self, SEGMENT_HEADER_BYTES};
use super::{Inner, LogError, LogPosition, ReadOnlyReason};

/// Iterator over what the log held when it was opened. Memory: one buffer and one record.
///
/// Read it to its end before anything is released. An error is the last item. Then the log is read-only, and stays as it is on disk.
pub struct Replay {
    log: Arc<Inner>,
    plan: Plan,
    current: Option<(PlannedSegment, SegmentReader)>,
    ended: bool,
}

impl Replay {
    pub(super) fn new(log: Arc<Inner>, plan: Plan) -> Self {
        Replay {
            log,
            plan,
            current: None,
            ended: false,
        }
    }

    fn step(&mut self) -> Result<Option<(LogPosition, Record)>, LogError> {
        loop {
            if let Some((segment, reader)) = &mut self.current {
                if reader.offset() < segment.end_offset {
                    return read(&self.log, segment, reader).map(Some);
                }
                self.current = None;
            }
            let Some(segment) = self.plan.segments.pop_front() else {
                return match self.plan.damage.take() {
                    Some(damage) => Err(LogError::ReadOnly(damage)),
                    None => Ok(None),
                };
            };
            let path = segment::path(&self.log.folder, segment.header.number);
            let file = self.log.disk.open(&path);
            let file = file.map_err(|error| LogError::io("open", &path, error))?;
            let reader = SegmentReader::new(file, SEGMENT_HEADER_BYTES as u64);
            self.current = Some((segment, reader));
        }
    }
}

fn read(
    log: &Inner,
    segment: &PlannedSegment,
    reader: &mut SegmentReader,
) -> Result<(LogPosition, Record), LogError> {
    let number = segment.header.number;
    let path = segment::path(&log.folder, number);
    let offset = reader.offset();
    let io = |error| LogError::io("read", &path, error);
    // It was good when the log was opened; now it does not open, or changed under our feet.
    let damaged = |sequence| {
        log.poison(ReadOnlyReason::Damaged {
            segment: path.clone(),
            offset,
            sequence,
        })
    };
    let header = reader.next_header(&segment.header).map_err(io)?;
    let header = header.ok_or_else(|| damaged(segment.header.first_sequence))?;
    let payload = reader.payload(&header).map_err(io)?;
    let record = payload
        .and_then(|payload| record::decode(&log.key, &segment.header.id, &header, payload.to_vec()))
        .ok_or_else(|| damaged(header.sequence))?;
    let position = LogPosition {
        sequence: header.sequence,
        segment: number,
        offset: offset as u32,
        length: header.payload_bytes,
    };
    Ok((position, record))
}

impl Iterator for Replay {
    type Item = Result<(LogPosition, Record), LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.step().transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}
