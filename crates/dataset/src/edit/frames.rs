//! Edits that take frames out of an episode.

use super::draft::Draft;
use crate::episodes::DONE;

/// What lies after a frame, and not in it: rewards, ends and successes.
const OUTCOME: &str = "next.";

/// A feature that has moved by no more than this share of its greatest movement in the episode stands still. Encoders
/// and hands at rest tremble by less, and less than this of a movement is lost at its slow beginning.
const IDLE_SHARE: f64 = 0.01;

/// From this share of the usual movement on a frame is in full motion.
const LIVELY: f64 = 0.2;

/// Removes frames that hold the bits of the frame before, where time did not advance or the robot was in full motion just
/// before and just after: it comes to rest slowly, so such a frame is an old one, recorded twice.
pub(super) fn drop_repeated(draft: &mut Draft, fps: f64) {
    let repeats: Vec<bool> = (0..draft.rows()).map(|row| row > 0 && draft.same_frame(row, row - 1)).collect();
    if !repeats.contains(&true) {
        return;
    }
    let liveliness = liveliness(draft);
    let mut kept = Vec::with_capacity(draft.rows());
    let mut start = 0;
    for run in repeats.chunk_by(|one, next| one == next) {
        let end = start + run.len();
        let before = (start > 1).then(|| liveliness[start - 1]);
        let stale = before.is_some_and(|before| before > LIVELY)
            && liveliness.get(end).is_some_and(|after| *after > LIVELY);
        let stays = |row: &usize| !run[0] || !(stale || draft.times[*row] <= draft.times[*row - 1]);
        kept.extend((start..end).filter(stays));
        start = end;
    }
    draft.keep(&kept, fps, |_| None);
}

/// How far the liveliest feature moved from the frame before, as a share of its usual movement in a frame, by frame.
fn liveliness(draft: &Draft) -> Vec<f64> {
    let mut liveliness = vec![0.0_f64; draft.rows()];
    for (column, (name, dim)) in draft.columns.iter().zip(&draft.layout) {
        if name.starts_with(OUTCOME) {
            continue;
        }
        let values = column.to_f64();
        let step = |row: usize| {
            let (here, before) = (&values[row * dim..(row + 1) * dim], &values[(row - 1) * dim..row * dim]);
            here.iter().zip(before).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
        };
        let steps: Vec<f64> = (1..draft.rows()).map(step).collect();
        let mut moves: Vec<f64> = steps.iter().copied().filter(|step| *step > 0.0).collect();
        moves.sort_by(f64::total_cmp);
        let Some(usual) = moves.get(moves.len() / 2) else { continue };
        for (lively, step) in liveliness[1..].iter_mut().zip(steps) {
            *lively = lively.max(step / usual);
        }
    }
    liveliness
}

/// Removes all but one of the frames at either end in which nothing moves. An episode in which nothing ever moves is left
/// as it is. What followed the last frame is what follows the last that is kept: nothing moved in between.
pub(super) fn trim_idle(draft: &mut Draft, fps: f64) {
    let rows = draft.rows();
    if rows == 0 {
        return;
    }
    let (from_first, from_last) = (moving(draft, 0), moving(draft, rows - 1));
    let (Some(begin), Some(end)) =
        (from_first.iter().position(|moves| *moves), from_last.iter().rposition(|moves| *moves))
    else {
        return;
    };
    let kept: Vec<usize> = (begin.saturating_sub(1)..(end + 2).min(rows)).collect();
    if kept.is_empty() {
        return;
    }
    let ending = ends_with(&kept, rows - 1);
    draft.keep(&kept, fps, |name| name.starts_with(OUTCOME).then(|| ending.clone()));
}

/// Lets `columns` come `steps` frames earlier, or later when it is negative. The episode ends where it ended: its last
/// frame is done when it was.
pub(super) fn shift(draft: &mut Draft, columns: &[usize], steps: i64, fps: f64) {
    let rows = draft.rows();
    let by = usize::try_from(steps.unsigned_abs()).unwrap_or(usize::MAX).min(rows);
    let (kept, acted) = if steps < 0 { (by..rows, 0..rows - by) } else { (0..rows - by, by..rows) };
    if by == 0 || rows == 0 {
        return;
    }
    let (kept, acted): (Vec<usize>, Vec<usize>) = (kept.collect(), acted.collect());
    let ending = ends_with(&kept, rows - 1);
    let names: Vec<String> = columns.iter().map(|column| draft.layout[*column].0.clone()).collect();
    draft.keep(&kept, fps, |name| {
        let acts = names.iter().any(|action| action == name).then(|| acted.clone());
        acts.or_else(|| (name == DONE).then(|| ending.clone()))
    });
}

/// The same rows, but for the last.
fn ends_with(rows: &[usize], last: usize) -> Vec<usize> {
    let mut rows = rows.to_vec();
    if let Some(end) = rows.last_mut() {
        *end = last;
    }
    rows
}

/// Whether anything stands elsewhere than in `origin`, by frame.
fn moving(draft: &Draft, origin: usize) -> Vec<bool> {
    let mut moving = vec![false; draft.rows()];
    for (column, (name, dim)) in draft.columns.iter().zip(&draft.layout) {
        if name.starts_with(OUTCOME) {
            continue;
        }
        let values = column.to_f64();
        let distance = |row: usize| {
            let (here, there) =
                (&values[row * dim..(row + 1) * dim], &values[origin * dim..(origin + 1) * dim]);
            here.iter().zip(there).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
        };
        let distances: Vec<f64> = (0..draft.rows()).map(distance).collect();
        let greatest = distances.iter().copied().fold(0.0, f64::max);
        for (moving, distance) in moving.iter_mut().zip(distances) {
            // Not finite is no standstill.
            *moving |= distance.is_nan() || distance > IDLE_SHARE * greatest;
        }
    }
    moving
}

#[cfg(test)]
mod tests {
    use super::super::draft::{chosen, nominal};
    use super::*;
    use crate::Column;

    const FPS: f64 = 10.0;

    /// A position [T, 2] that stands still, moves and stands still, with actions that are the frame's number.
    fn draft(still: usize, moving: usize, rest: usize) -> Draft {
        let rows = still + moving + rest;
        let place = |row: usize| row.clamp(still, still + moving) as f32 - still as f32;
        Draft {
            times: nominal(rows, FPS),
            columns: vec![
                Column::Float32((0..rows).flat_map(|row| [place(row), 2.0 * place(row)]).collect()),
                Column::Float64((0..rows).map(|row| place(row).into()).collect()),
                Column::Bool((0..rows).map(|row| row + 1 == rows).collect()),
            ],
            layout: vec![("observation.state".into(), 2), ("action".into(), 1), (DONE.into(), 1)],
        }
    }

    #[test]
    fn actions_shifted_by_k_are_those_of_k_frames_later() {
        let whole = draft(0, 20, 0);
        let Column::Float64(actions) = &whole.columns[1] else { panic!() };
        for steps in [-5_i64, -1, 0, 3, 19] {
            let mut shifted = whole.clone();
            shift(&mut shifted, &[1], steps, FPS);
            let rows = 20 - steps.unsigned_abs() as usize;
            assert_eq!((shifted.rows(), &shifted.times), (rows, &nominal(rows, FPS)));
            let Column::Float64(now) = &shifted.columns[1] else { panic!() };
            let Column::Float32(states) = &shifted.columns[0] else { panic!() };
            for row in 0..rows {
                // The state tells which frame this was.
                let was = states[2 * row] as i64;
                assert_eq!(now[row], actions[(was + steps) as usize], "{steps} {row}");
            }
            let done = Column::Bool((0..rows).map(|row| row + 1 == rows).collect());
            assert_eq!(shifted.columns[2], done);
        }
        let mut gone = whole.clone();
        shift(&mut gone, &[1], 20, FPS);
        assert_eq!((gone.rows(), gone.columns[0].len()), (0, 0));
    }

    #[test]
    fn standing_still_is_cut_at_both_ends_but_for_one_frame() {
        let mut trimmed = draft(7, 10, 5);
        trim_idle(&mut trimmed, FPS);
        assert_eq!(trimmed, draft(0, 10, 1));
        let again = trimmed.clone();
        trim_idle(&mut trimmed, FPS);
        assert_eq!(trimmed, again, "nothing is left to trim");
        let mut still = draft(6, 0, 0);
        trim_idle(&mut still, FPS);
        assert_eq!(still, draft(6, 0, 0), "an episode in which nothing moves is left");
        let mut broken = draft(7, 10, 5);
        broken.columns[1] = Column::Float64(vec![f64::NAN; 22]);
        let was = format!("{broken:?}");
        trim_idle(&mut broken, FPS);
        assert_eq!(format!("{broken:?}"), was, "what cannot be measured is not cut");
    }

    #[test]
    fn repeated_frames_go_where_time_stood_still_or_motion_did_not() {
        let whole = draft(0, 12, 0);
        let chosen_rows = |rows: &[usize]| {
            let columns = whole.columns.iter().zip(&whole.layout);
            Draft {
                times: rows.iter().map(|row| whole.times[*row]).collect(),
                columns: columns.map(|(column, (_, dim))| chosen(column, *dim, rows)).collect(),
                layout: whole.layout.clone(),
            }
        };
        let rows = [0, 1, 1, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10, 11, 11];
        let mut mended = chosen_rows(&rows);
        drop_repeated(&mut mended, FPS);
        assert_eq!(mended, whole, "time stood still");

        let mut stale = Draft { times: nominal(rows.len(), FPS), ..chosen_rows(&rows) };
        drop_repeated(&mut stale, FPS);
        // At the end it may have come to rest.
        let last = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11];
        assert_eq!(stale.columns, chosen_rows(&last).columns);
        let times = nominal(rows.len(), FPS);
        let kept = [0, 1, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15].map(|row: usize| times[row]);
        assert_eq!(stale.times, kept, "the others keep their times");

        // A robot that slows down, waits and sets off again: its frames are data.
        let places = [0.0, 1.0, 2.0, 2.1, 2.1, 2.1, 2.1, 2.2, 3.0, 4.0_f32];
        let waiting = Draft {
            times: nominal(places.len(), FPS),
            columns: vec![Column::Float32(places.to_vec())],
            layout: vec![("observation.state".into(), 1)],
        };
        let mut same = waiting.clone();
        drop_repeated(&mut same, FPS);
        assert_eq!(same, waiting);
    }
}
