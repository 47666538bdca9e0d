//! Whatever the text is, it is refused with a reason, or it is an experiment whose numbers can be used.

use nudge_policy::TrainConfig;

pub fn law(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match TrainConfig::from_toml(text) {
        Ok(config) => {
            let horizon = &config.policy.horizon;
            assert!(horizon.observed >= 1 && horizon.executed >= 1 && horizon.executed <= horizon.predicted);
            assert!(config.training.batch_size >= 1 && config.training.steps >= 1);
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}
