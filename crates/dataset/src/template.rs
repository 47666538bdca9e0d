//! Path templates as info.json states them, for example `data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet`.

use std::path::{Component, Path, PathBuf};

/// Fills the placeholders of `template`, each `{name}` or, zero-padded to `N` digits, `{name:0Nd}`.
///
/// # Errors
/// When a placeholder is unknown or malformed, or the path would leave the data set's folder.
pub(crate) fn fill(template: &str, values: &[(&str, usize)]) -> Result<PathBuf, String> {
    let mut path = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        path.push_str(&rest[..at]);
        let tail = &rest[at..];
        if tail.starts_with("{{") || tail.starts_with("}}") {
            path.push_str(&tail[..1]);
            rest = &tail[2..];
            continue;
        }
        let Some((field, after)) = tail.strip_prefix('{').and_then(|tail| tail.split_once('}')) else {
            return Err(format!("`{template}` has an unmatched brace"));
        };
        path.push_str(&number(field, values).map_err(|problem| format!("`{template}`: {problem}"))?);
        rest = after;
    }
    path.push_str(rest);
    if Path::new(&path).components().all(|part| matches!(part, Component::Normal(_))) {
        Ok(path.into())
    } else {
        Err(format!("`{template}` leads out of the data set's folder"))
    }
}

fn number(field: &str, values: &[(&str, usize)]) -> Result<String, String> {
    let (name, format) = field.split_once(':').unwrap_or((field, "d"));
    let Some((_, value)) = values.iter().find(|(known, _)| *known == name) else {
        let known: Vec<_> = values.iter().map(|(known, _)| *known).collect();
        return Err(format!("the placeholder `{name}` is not one of {}", known.join(", ")));
    };
    let width = match format.strip_suffix('d').unwrap_or(format) {
        "" => Some(0),
        digits => digits.strip_prefix('0').and_then(|digits| digits.parse::<usize>().ok()),
    };
    match width {
        Some(width @ 0..=20) => Ok(format!("{value:0width$}")),
        _ => Err(format!("the format `{format}` of `{name}` is not understood; expected for example `03d`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_padded_as_python_does() {
        let values = [("episode_chunk", 2), ("episode_index", 2_345)];
        let path = |template| fill(template, &values).map(|path| path.display().to_string());
        let v2 = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet";
        assert_eq!(path(v2).unwrap(), "data/chunk-002/episode_002345.parquet");
        assert_eq!(path("{episode_index:03d}").unwrap(), "2345");
        assert_eq!(path("{episode_index}-{{x}}").unwrap(), "2345-{x}");
    }

    #[test]
    fn bad_templates_are_refused_by_name() {
        for (template, expected) in [
            ("a/{nope:03d}", "`nope`"),
            ("a/{episode_index:3x}", "`3x`"),
            ("a/{episode_index", "unmatched"),
            ("a/episode_index}", "unmatched"),
            ("../{episode_index}", "leads out"),
            ("/etc/{episode_index}", "leads out"),
        ] {
            let problem = fill(template, &[("episode_index", 1)]).unwrap_err();
            assert!(problem.contains(expected), "{template}: {problem}");
        }
    }
}
