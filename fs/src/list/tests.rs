use proptest::prelude::*;

use super::*;
use crate::chunks::MemoryChunks;

fn chunk(number: u64) -> Piece {
    let id = ChunkId {
        epoch: 1,
        hash: *blake3::hash(&number.to_le_bytes()).as_bytes(),
    };
    Piece::Chunk {
        id,
        length: 1000 + (number % 1000) as u32,
    }
}

fn build(chunks: &MemoryChunks, pieces: &[Piece]) -> ListRef {
    let mut builder = ListBuilder::new(chunks);
    pieces
        .iter()
        .for_each(|piece| builder.push(*piece).unwrap());
    builder.finish().unwrap()
}

fn all(chunks: &MemoryChunks, list: &ListRef) -> Vec<Piece> {
    pieces_from(chunks, list, 0)
        .map(|piece| piece.unwrap().1)
        .collect()
}

/// Neighbouring holes as one, as every list has them.
fn joined(pieces: impl IntoIterator<Item = Piece>) -> Vec<Piece> {
    let mut whole: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (whole.last_mut(), piece) {
            (Some(Piece::Hole { length }), Piece::Hole { length: more }) => *length += more,
            _ => whole.push(piece),
        }
    }
    whole
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        8 => any::<u64>().prop_map(chunk),
        1 => (0..4_u64).prop_map(chunk),
        1 => (1..5000_u64).prop_map(|length| Piece::Hole { length }),
    ]
}

fn pieces(most: usize) -> impl Strategy<Value = Vec<Piece>> {
    prop::collection::vec(piece(), 0..most).prop_map(joined)
}

fn offset_of(pieces: &[Piece], place: usize) -> u64 {
    pieces[..place].iter().map(Piece::length).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_list_gives_its_pieces_back(pieces in pieces(900), from: prop::sample::Index) {
        let chunks = MemoryChunks::new();
        let list = build(&chunks, &pieces);
        prop_assert_eq!(all(&chunks, &list), &pieces[..]);
        prop_assert_eq!(matches!(list, ListRef::Inline(_)), pieces.len() <= 32);
        prop_assert_eq!(covered_bytes(&chunks, &list).unwrap(), offset_of(&pieces, pieces.len()));
        if !pieces.is_empty() {
            let place = from.index(pieces.len());
            let found = pieces_from(&chunks, &list, offset_of(&pieces, place) + pieces[place].length() - 1);
            let found: Vec<_> = found.map(|piece| piece.unwrap()).collect();
            prop_assert_eq!(found[0], (offset_of(&pieces, place), pieces[place]));
            prop_assert_eq!(found.len(), pieces.len() - place);
        }
    }

    #[test]
    fn splicing_gives_the_list_that_a_builder_makes(
        first in pieces(900),
        edits in prop::collection::vec((any::<[prop::sample::Index; 2]>(), pieces(60)), 1..6),
    ) {
        let chunks = MemoryChunks::new();
        let mut model = first;
        let mut list = build(&chunks, &model);
        for (places, new) in edits {
            let [a, b] = places.map(|place| place.index(model.len() + 1));
            let (a, b) = (a.min(b), a.max(b));
            let range = offset_of(&model, a)..offset_of(&model, b);
            list = splice(&chunks, &chunks, &list, range, new.clone()).unwrap();
            model.splice(a..b, new);
            model = joined(model);
            prop_assert_eq!(all(&chunks, &list), &model[..]);
        }
        prop_assert_eq!(build(&chunks, &model), list);
    }

    #[test]
    fn holes_are_cut_anywhere_and_gaps_become_holes(
        lengths in [1..900_u64, 1..900_u64],
        cut in [0..2000_u64, 0..2000_u64],
    ) {
        let chunks = MemoryChunks::new();
        let pieces = [Piece::Hole { length: lengths[0] }, chunk(1), Piece::Hole { length: lengths[1] }];
        let list = build(&chunks, &pieces);
        let range = cut[0].min(cut[1])..cut[0].max(cut[1]);
        let inside = lengths[0]..lengths[0] + chunk(1).length();
        let cuts_chunk = |offset: u64| inside.start < offset && offset < inside.end;
        let spliced = splice(&chunks, &chunks, &list, range.clone(), vec![chunk(2)]);
        if cuts_chunk(range.start) || cuts_chunk(range.end) {
            let refused = matches!(spliced, Err(ChunkError::Load(LoadError::Other(_))));
            prop_assert!(refused);
        } else {
            let list = spliced.unwrap();
            let found = pieces_from(&chunks, &list, range.start).next().unwrap().unwrap();
            prop_assert_eq!(found, (range.start, chunk(2)));
            let total = offset_of(&pieces, 3);
            let rest = total.saturating_sub(range.end);
            prop_assert_eq!(covered_bytes(&chunks, &list).unwrap(), range.start + chunk(2).length() + rest);
        }
    }
}

#[test]
fn a_million_pieces_cost_little_to_change() {
    let chunks = MemoryChunks::new();
    let mut builder = ListBuilder::new(&chunks);
    for number in 0..1_000_000 {
        builder.push(chunk(number)).unwrap();
        let open: usize = builder.open.iter().map(Vec::len).sum();
        assert!(
            open <= builder.open.len() * NODE_ROWS_MAX,
            "memory is bounded"
        );
    }
    let covered = builder.covered_bytes();
    let list = builder.finish().unwrap();
    assert_eq!(covered_bytes(&chunks, &list).unwrap(), covered);
    let mut nodes_of = 0;
    nodes(&chunks, &list, &mut |_| nodes_of += 1).unwrap();
    assert!(nodes_of < 10_000, "{nodes_of}");

    let (start, piece) = pieces_from(&chunks, &list, covered / 2)
        .next()
        .unwrap()
        .unwrap();
    chunks.take_counts();
    let changed = splice(
        &chunks,
        &chunks,
        &list,
        start..start + piece.length(),
        vec![chunk(7), chunk(8)],
    )
    .unwrap();
    let counts = chunks.take_counts();
    assert!(counts.stores <= 12 && counts.loads <= 60, "{counts:?}");
    assert_eq!(
        pieces_from(&chunks, &changed, start)
            .next()
            .unwrap()
            .unwrap(),
        (start, chunk(7))
    );
    let undone = start..start + chunk(7).length() + chunk(8).length();
    assert_eq!(
        splice(&chunks, &chunks, &changed, undone, vec![piece]).unwrap(),
        list
    );
}

#[test]
fn a_run_of_one_chunk_is_few_nodes() {
    let chunks = MemoryChunks::new();
    // A chunk whose id would end a node each time: the rows' minimum holds.
    let ending = (0..)
        .map(chunk)
        .find(|piece| Row::Piece(*piece).ends_node(NODE_ROWS_MIN));
    for piece in [chunk(1), ending.unwrap()] {
        let list = build(&chunks, &vec![piece; 100_000]);
        assert!(chunks.len() < 200, "{}", chunks.len());
        assert_eq!(pieces_from(&chunks, &list, 0).count(), 100_000);
    }
}

#[test]
fn a_list_that_lies_is_damaged() {
    let chunks = MemoryChunks::new();
    let pieces: Vec<Piece> = (0..5000).map(chunk).collect();
    let list = build(&chunks, &pieces);
    let ListRef::Node { level, id } = list else {
        panic!("5000 pieces do not stand in an inode")
    };
    let mut ids = Vec::new();
    nodes(&chunks, &list, &mut |id| ids.push(*id)).unwrap();
    // A leaf of another length than its parent says.
    let other = ListNode::Pieces(vec![chunk(3)]).encode();
    chunks.replace(ChunkKind::List, ids.last().unwrap(), other.into());
    assert!(
        pieces_from(&chunks, &list, 0).any(|piece| matches!(piece, Err(LoadError::Damaged { .. })))
    );
    let wrong_level = ListRef::Node {
        level: level + 1,
        id,
    };
    assert!(
        pieces_from(&chunks, &wrong_level, 0)
            .next()
            .unwrap()
            .is_err()
    );
}
