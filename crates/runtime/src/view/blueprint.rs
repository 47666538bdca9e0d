//! The layout in which a recording opens.

use rerun::blueprint::components::{PanelState, PlayState};
use rerun::blueprint::{
    Blueprint, BlueprintPanel, ContainerLike, Horizontal, SelectionPanel, Spatial2DView, StateTimelineView,
    Tabs, TextLogView, TimePanel, TimeSeriesView, Vertical,
};

use super::ViewOptions;
use super::logger::{ACTION, CONFIDENCE, EVENTS, GUARD, OBSERVATION, REWARD, TIMING, WORLD};

/// The world large at left, curves at right, events below.
pub(super) fn blueprint(options: &ViewOptions) -> Blueprint {
    let curves = |name: &str, origin: &str| TimeSeriesView::new(name).with_origin(origin);
    let right: [ContainerLike; 4] = [
        curves("Reward", REWARD).into(),
        Tabs::new([curves("Action", ACTION).into(), curves("Observation", OBSERVATION).into()]).into(),
        Tabs::new([curves("Timing (ms)", TIMING).into(), curves("Confidence", CONFIDENCE).into()]).into(),
        StateTimelineView::new("Guard").with_origin(GUARD).into(),
    ];
    let upper = Horizontal::new([
        Spatial2DView::new(options.name.as_str()).with_origin(WORLD).into(),
        Vertical::new(right).with_row_shares([3.0, 3.0, 3.0, 1.5]).into(),
    ]);
    let below = TextLogView::new("Events").with_origin(EVENTS);
    let root = Vertical::new([upper.with_column_shares([3.0, 2.0]).into(), below.into()]);
    let time = TimePanel::new().with_timeline("time").with_play_state(PlayState::Following);
    Blueprint::new(root.with_row_shares([5.0, 1.0]))
        .with_auto_views(false)
        .with_time_panel(time.with_state(PanelState::Collapsed))
        .with_blueprint_panel(BlueprintPanel::from_state(PanelState::Collapsed))
        .with_selection_panel(SelectionPanel::from_state(PanelState::Collapsed))
}
