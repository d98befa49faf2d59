//! Replacing a run of a list's pieces, by loading and writing only the nodes around it.
//!
//! As with trees: level by level from below, cut anew from the start of the node in which the
//! change begins until a cut falls together with an old one. The result is the list that a builder
//! would make of the same pieces, but where a long run of equal chunks was cut by its length alone
//! it may take until the end of that run.

use super::*;
use crate::chunks::ChunkSink;
use crate::format::list::INLINE_PIECES;
use builder::store_node;

/// Puts `pieces` in the place of the bytes `range` of a file. They need not be as long as what
/// they replace; what follows moves.
///
/// Holes may be cut anywhere, chunks not. A range that begins behind the end of the list
/// leaves a hole in between. `source` must have what `sink` took.
pub fn splice(
    source: &dyn ChunkSource,
    sink: &dyn ChunkSink,
    list: &ListRef,
    range: Range<u64>,
    pieces: Vec<Piece>,
) -> Result<ListRef, ChunkError> {
    let covered = covered_bytes(source, list)?;
    let (range, pieces) = widen_to_holes(source, list, covered, range, pieces)?;
    let ListRef::Node { level: top, id } = list else {
        return splice_inline(source, sink, list, range, pieces);
    };
    let old = Old {
        source,
        level: *top,
        root: ListChild {
            length: covered,
            id: *id,
        },
    };
    let mut rows: Vec<Row> = pieces.into_iter().map(Row::Piece).collect();
    let mut range = range;
    for level in 0..=*top {
        (range, rows) = rewrite(&old, sink, level, range, rows)?;
    }
    let mut level = *top;
    while rows.len() > 1 {
        level += 1;
        rows = cut_all(sink, level, rows)?;
    }
    match rows.first() {
        Some(Row::Child(root)) => lowest_form(source, level, root.id),
        _ => Ok(ListRef::empty()),
    }
}

/// Takes the holes at both ends of a range (whole ones) into it, so that holes stay one piece.
fn widen_to_holes(
    source: &dyn ChunkSource,
    list: &ListRef,
    covered: u64,
    range: Range<u64>,
    pieces: Vec<Piece>,
) -> Result<(Range<u64>, Vec<Piece>), ChunkError> {
    let mut start = range.start.min(covered);
    let mut end = range.end.clamp(start, covered);
    let (mut before, mut after) = (range.start - start, 0);
    if start > 0
        && let Some(first) = pieces_from(source, list, start - 1).next()
    {
        let (offset, piece) = first?;
        match piece {
            Piece::Hole { .. } => {
                before += start - offset;
                start = offset;
            }
            Piece::Chunk { length, .. } if offset + u64::from(length) > start => {
                return Err(InsideChunk { offset: start }.into());
            }
            Piece::Chunk { .. } => {}
        }
    }
    if let Some(last) = pieces_from(source, list, end).next() {
        let (offset, piece) = last?;
        match piece {
            Piece::Hole { length } => {
                after = offset + length - end;
                end = offset + length;
            }
            Piece::Chunk { .. } if offset < end => {
                return Err(InsideChunk { offset: end }.into());
            }
            Piece::Chunk { .. } => {}
        }
    }
    let mut whole = Vec::with_capacity(pieces.len() + 2);
    let holes = [
        Piece::Hole { length: before },
        Piece::Hole { length: after },
    ];
    for piece in std::iter::once(holes[0]).chain(pieces).chain([holes[1]]) {
        match (whole.last_mut(), piece) {
            (Some(Piece::Hole { length }), Piece::Hole { length: more }) => *length += more,
            (_, piece) if piece.length() > 0 => whole.push(piece),
            _ => {}
        }
    }
    Ok((start..end, whole))
}

fn splice_inline(
    source: &dyn ChunkSource,
    sink: &dyn ChunkSink,
    list: &ListRef,
    range: Range<u64>,
    pieces: Vec<Piece>,
) -> Result<ListRef, ChunkError> {
    let mut builder = ListBuilder::new(sink);
    let mut pieces = Some(pieces);
    for old in pieces_from(source, list, 0) {
        let (start, old) = old?;
        if start >= range.start {
            pieces
                .take()
                .into_iter()
                .flatten()
                .try_for_each(|piece| builder.push(piece))?;
        }
        if start + old.length() <= range.start || start >= range.end {
            builder.push(old)?;
        }
    }
    pieces
        .into_iter()
        .flatten()
        .try_for_each(|piece| builder.push(piece))?;
    builder.finish()
}

/// Replaces rows of one level; returns what that replaces in the level above.
fn rewrite(
    old: &Old<'_>,
    sink: &dyn ChunkSink,
    level: u8,
    range: Range<u64>,
    new: Vec<Row>,
) -> Result<(Range<u64>, Vec<Row>), ChunkError> {
    let mut cutter = Cutter {
        sink,
        level,
        open: Vec::new(),
        cut: Vec::new(),
    };
    let mut node = old.node_at(level, range.start)?;
    let begin = node.start;
    for (start, row) in node.rows() {
        if start < range.start {
            cutter.push(row)?;
        }
    }
    new.into_iter().try_for_each(|row| cutter.push(row))?;
    if range.end > node.end {
        node = old.node_at(level, range.end)?;
    }
    loop {
        for (start, row) in node.rows() {
            if start >= range.end {
                cutter.push(row)?;
            }
        }
        if cutter.open.is_empty() || node.end >= old.root.length {
            cutter.end()?;
            return Ok((begin..node.end, cutter.cut));
        }
        node = old.node_at(level, node.end)?;
    }
}

fn cut_all(sink: &dyn ChunkSink, level: u8, rows: Vec<Row>) -> Result<Vec<Row>, ChunkError> {
    let mut cutter = Cutter {
        sink,
        level,
        open: Vec::new(),
        cut: Vec::new(),
    };
    rows.into_iter().try_for_each(|row| cutter.push(row))?;
    cutter.end()?;
    Ok(cutter.cut)
}

/// The form that a builder would have given: in the inode, or the lowest node that is alone.
fn lowest_form(
    source: &dyn ChunkSource,
    mut level: u8,
    mut id: ChunkId,
) -> Result<ListRef, ChunkError> {
    while level > 0 {
        match load_rows(source, level, &id)?.as_slice() {
            [Row::Child(child)] => id = child.id,
            _ => break,
        }
        level -= 1;
    }
    let list = ListRef::Node { level, id };
    let first: Result<Vec<_>, _> = pieces_from(source, &list, 0)
        .take(INLINE_PIECES + 1)
        .collect();
    let first = first?;
    if first.len() > INLINE_PIECES {
        Ok(list)
    } else {
        Ok(ListRef::Inline(
            first.into_iter().map(|(_, piece)| piece).collect(),
        ))
    }
}

struct Cutter<'a> {
    sink: &'a dyn ChunkSink,
    level: u8,
    open: Vec<Row>,
    cut: Vec<Row>,
}

impl Cutter<'_> {
    fn push(&mut self, row: Row) -> Result<(), ChunkError> {
        self.open.push(row);
        if row.ends_node(self.open.len()) {
            self.end()
        } else {
            Ok(())
        }
    }

    fn end(&mut self) -> Result<(), ChunkError> {
        if !self.open.is_empty() {
            let rows = std::mem::take(&mut self.open);
            self.cut
                .push(Row::Child(store_node(self.sink, self.level, rows)?));
        }
        Ok(())
    }
}

/// The list as it was, by level and offset.
struct Old<'a> {
    source: &'a dyn ChunkSource,
    level: u8,
    root: ListChild,
}

struct OldNode {
    start: u64,
    end: u64,
    rows: Vec<Row>,
}

impl OldNode {
    fn rows(&self) -> impl Iterator<Item = (u64, Row)> {
        let mut next = self.start;
        self.rows.iter().map(move |row| {
            let start = next;
            next += row.length();
            (start, *row)
        })
    }
}

impl Old<'_> {
    /// The node of a level that covers a byte; at the end of the list, the last one.
    fn node_at(&self, level: u8, offset: u64) -> Result<OldNode, LoadError> {
        let (mut start, mut node) = (0, self.root);
        for above in (level..=self.level).rev() {
            let rows = load_rows(self.source, above, &node.id)?;
            if total_length(&rows) != Some(node.length) {
                return Err(damaged(&node.id));
            }
            let current = OldNode {
                start,
                end: start + node.length,
                rows,
            };
            if above == level {
                return Ok(current);
            }
            // The last row stands for the end of the list too.
            let below = current
                .rows()
                .take_while(|(start, _)| *start <= offset)
                .last();
            let Some((begin, Row::Child(child))) = below else {
                return Err(damaged(&node.id));
            };
            (start, node) = (begin, child);
        }
        Err(damaged(&node.id))
    }
}
