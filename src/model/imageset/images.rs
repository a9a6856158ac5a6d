//! `mirror.additionalImages`, `helm`, `blockedImages` and `samples`.

use regex::Regex;

use super::{
    AdditionalImage, Blocked, Helm, HelmChart, HelmRepository,
    collide::{Claim, Claimed},
    names,
    parse::Schema,
};
use crate::{
    model::target::additional_path_and_tag,
    yaml::reader::{At, Fields},
};

/// Reads `additionalImages`, and where they land.
pub(super) fn additional(
    mirror: &mut Fields<'_>,
    schema: Schema,
    claims: &mut Vec<Claim>,
) -> Vec<AdditionalImage> {
    let mut found = Vec::new();
    for at in mirror.list("additionalImages") {
        if let Some((name_at, image)) = additional_image(&at, schema) {
            let (path, tag) = additional_path_and_tag(&image);
            let what = Claimed::Image(image.image.digest.clone(), image.platforms.clone());
            claims.push(Claim::new(
                &name_at,
                path,
                tag.to_string(),
                image.image.to_string(),
                what,
            ));
            found.push(image);
        }
    }
    found
}

/// Reads an entry of `additionalImages`, with where its name is.
fn additional_image<'a>(at: &At<'a>, schema: Schema) -> Option<(At<'a>, AdditionalImage)> {
    let mut fields = at.fields()?;
    schema.new_in_v2(&mut fields, &["targetRepo", "targetTag", "platforms"]);
    let name_at = fields.required(
        "name",
        "name the image, for instance `name: quay.io/namespace/image:tag`",
    );
    let image = name_at.as_ref().and_then(names::reference);
    let target_repo = names::target_path(&mut fields, "targetRepo");
    let target_tag = fields.parsed("targetTag");
    let platforms = names::platforms(&mut fields);
    fields.finish();
    let image = AdditionalImage {
        image: image?,
        target_repo,
        target_tag,
        platforms,
    };
    name_at.map(|at| (at, image))
}

/// Reads `blockedImages`: regular expressions in v2alpha1, names in v1alpha2.
pub(super) fn blocked(mirror: &mut Fields<'_>, schema: Schema) -> Vec<Blocked> {
    let read = |at: At<'_>| {
        let mut fields = at.fields()?;
        let at = fields.required("name", "name what is not to be mirrored");
        fields.finish();
        let at = at?;
        let text = at.text()?;
        match schema {
            Schema::V1Alpha2 => Some(Blocked::Exact(text)),
            Schema::V2Alpha1 => check_pattern(&at, &text).then_some(Blocked::Pattern(text)),
        }
    };
    mirror
        .list("blockedImages")
        .into_iter()
        .filter_map(read)
        .collect()
}

/// Reports a pattern that is no regular expression.
fn check_pattern(at: &At<'_>, text: &str) -> bool {
    let Err(error) = pattern(text) else {
        return true;
    };
    let reason = error.to_string();
    let reason = reason
        .lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ");
    let hint = match text.starts_with('*') {
        true => "any text is `.*` here; a plain name needs nothing around it",
        false => "a plain name needs nothing around it; `\\` before a sign takes it as it is",
    };
    let message = format!(
        "`{}` is not a regular expression: {reason}",
        crate::yaml::shorten(text)
    );
    at.error(message, hint);
    false
}

/// Compiles a pattern of `blockedImages`, to be searched for anywhere in a reference.
///
/// The limits keep a hostile one from taking much memory.
pub fn pattern(text: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(text)
        .size_limit(1 << 20)
        .nest_limit(64)
        .build()
}

/// Reads `samples`, which nobody mirrors.
pub(super) fn samples(mirror: &mut Fields<'_>) {
    let Some(at) = mirror.get("samples") else {
        return;
    };
    at.warn(
        "`samples` are not mirrored, nor does oc-mirror mirror them",
        "name the images below `additionalImages`",
    );
    for at in at.list() {
        if let Some(mut fields) = at.fields() {
            fields.text("name");
            fields.finish();
        }
    }
}

/// Reads `helm`.
pub(super) fn helm(mirror: &mut Fields<'_>, schema: Schema) -> Helm {
    let Some(mut fields) = mirror.fields("helm") else {
        return Helm::default();
    };
    let helm = Helm {
        repositories: fields
            .list("repositories")
            .iter()
            .filter_map(|at| repository(at, schema))
            .collect(),
        local: fields
            .list("local")
            .iter()
            .filter_map(|at| local_chart(at, schema))
            .collect(),
    };
    fields.finish();
    helm
}

/// Reads an entry of `repositories`.
fn repository(at: &At<'_>, schema: Schema) -> Option<HelmRepository> {
    let mut fields = at.fields()?;
    let name = fields
        .required("name", "name the repository")
        .and_then(|at| at.text());
    let url = fields
        .required(
            "url",
            "write where its `index.yaml` is, for instance `url: https://charts.example.com`",
        )
        .and_then(|at| repository_url(&at));
    let charts = fields
        .list("charts")
        .iter()
        .filter_map(|at| chart(at, schema))
        .collect();
    fields.finish();
    Some(HelmRepository {
        name: name?,
        url: url?,
        charts,
    })
}

/// Reads the address of a repository of charts.
fn repository_url(at: &At<'_>) -> Option<String> {
    let text = at.text()?;
    match url::Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(text),
        _ => {
            let message = format!(
                "`{}` is not the address of a chart repository",
                crate::yaml::shorten(&text)
            );
            at.error(
                message,
                "write one that begins with `https://` or `http://`",
            );
            None
        }
    }
}

/// Reads a chart on disk.
fn local_chart(at: &At<'_>, schema: Schema) -> Option<HelmChart> {
    let chart = chart(at, schema)?;
    if chart.path.is_none() {
        let fields = at.fields()?;
        fields.missing("path", "write where the chart's file is");
        return None;
    }
    Some(chart)
}

/// Reads a chart.
fn chart(at: &At<'_>, schema: Schema) -> Option<HelmChart> {
    let mut fields = at.fields()?;
    schema.new_in_v2(&mut fields, &["platforms"]);
    let name = fields
        .required("name", "name the chart")
        .and_then(|at| at.text());
    let version = fields.text("version");
    let path = fields.text("path");
    let image_paths = fields.texts("imagePaths");
    let platforms = names::platforms(&mut fields);
    fields.finish();
    Some(HelmChart {
        name: name?,
        version,
        path,
        image_paths,
        platforms,
    })
}
