//! An ImageSetConfiguration document: its head, its two versions, and the stanzas of `mirror`.
//!
//! The shape is oc-mirror's. Where its reader is lenient (letter case, YAML 1.1 truths, keys that do nothing) so is this one, with a warning;
//! where it is silent about what cannot have been meant, this one reports an error.

use super::{ImageSet, SetName, collide::Claim, images, operators, platform};
use crate::yaml::{
    Severity,
    reader::{At, Fields},
    suggest::{nearest, suggest},
};

/// The kind of the documents that are read here.
pub(super) const KIND: &str = "ImageSetConfiguration";

/// oc-mirror's kind for what is to be deleted.
pub(super) const DELETE_KIND: &str = "DeleteImageSetConfiguration";

/// The API group of oc-mirror's documents.
pub(super) const GROUP: &str = "mirror.openshift.io/";

/// Which of the two versions a document is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schema {
    /// `mirror.openshift.io/v1alpha2`
    V1Alpha2,
    /// `mirror.openshift.io/v2alpha1`
    V2Alpha1,
}

impl Schema {
    /// Warns of keys that v1alpha2 did not have; oc-mirror v2 reads them in either version.
    pub(super) fn new_in_v2(self, fields: &mut Fields<'_>, keys: &[&str]) {
        if self == Schema::V1Alpha2 {
            for key in keys {
                fields.ignore(
                    key,
                    &format!("`{key}` is a key of v2alpha1; it is read all the same, as oc-mirror v2 does"),
                    "write `apiVersion: mirror.openshift.io/v2alpha1`",
                );
            }
        }
    }

    /// Whether a key of v1alpha2 alone is there and is to be read; `instead` says what becomes of it, `remedy` what to do in v2alpha1.
    pub(super) fn only_in_v1(
        self,
        fields: &mut Fields<'_>,
        key: &str,
        instead: &str,
        remedy: &str,
    ) -> bool {
        if !fields.has(key) {
            return false;
        }
        match self {
            Schema::V1Alpha2 => {
                fields.ignore(
                    key,
                    &format!("`{key}` is of oc-mirror v1: {instead}"),
                    remedy,
                );
            }
            Schema::V2Alpha1 => {
                fields.refuse(key, &format!("`{key}` is a key of v1alpha2 alone"), remedy);
            }
        }
        self == Schema::V1Alpha2
    }
}

/// An image set and what it claims in the mirror.
pub(super) struct Parsed {
    /// The image set; to be used only where the report has no errors.
    pub(super) image_set: ImageSet,
    /// Where its images and catalogs land.
    pub(super) claims: Vec<Claim>,
}

/// Reads a document; nothing where it has none of the parts of an image set.
pub(super) fn document(root: &At<'_>, name: &SetName) -> Option<Parsed> {
    let mut top = root.fields()?;
    if !kind(&mut top) {
        return None;
    }
    let schema = schema(&mut top)?;
    let archive_size = top.get("archiveSize").and_then(|at| at.integer());
    top.refuse(
        "delete",
        "`delete` does not belong into an image set: nothing is deleted because of a file",
        "remove it; what is no longer wanted is listed in the plan",
    );
    top.refuse(
        "metadata",
        "`metadata` is not a key of an image set",
        "remove it; an image set is named by its file",
    );
    storage(&mut top, schema);
    let mirror = mirror(&mut top, schema);
    top.finish();
    let (mut image_set, claims) = mirror?;
    image_set.name = name.clone();
    image_set.archive_size = archive_size.filter(|&size| size > 0);
    Some(Parsed { image_set, claims })
}

/// Reads `kind`; whether the rest is to be read as an image set.
fn kind(top: &mut Fields<'_>) -> bool {
    let Some(at) = top.required("kind", &format!("write `kind: {KIND}`")) else {
        return true;
    };
    match at.text() {
        Some(kind) if kind == DELETE_KIND => {
            at.error(
                format!("`{DELETE_KIND}` is not read: nothing is deleted because of a file"),
                "move the file elsewhere; what is no longer wanted is listed in the plan",
            );
            false
        }
        Some(kind) if kind != KIND => {
            let hint = match nearest(&kind, &[KIND]) {
                Some(_) => format!("did you mean `{KIND}`?"),
                None => format!("write `kind: {KIND}`"),
            };
            at.error(
                format!(
                    "`{}` is not a kind that is read here",
                    crate::yaml::shorten(&kind)
                ),
                hint,
            );
            true
        }
        _ => true,
    }
}

/// Reads `apiVersion`. Without it, v2alpha1 is taken, as oc-mirror v2 does.
fn schema(top: &mut Fields<'_>) -> Option<Schema> {
    const VERSIONS: [(&str, Schema); 2] = [
        ("mirror.openshift.io/v2alpha1", Schema::V2Alpha1),
        ("mirror.openshift.io/v1alpha2", Schema::V1Alpha2),
    ];
    let Some(at) = top.get("apiVersion") else {
        top.at().note(
            Severity::Warning,
            "apiVersion",
            "`apiVersion` is missing; `mirror.openshift.io/v2alpha1` is assumed, as oc-mirror v2 does",
            "write `apiVersion: mirror.openshift.io/v2alpha1`",
        );
        return Some(Schema::V2Alpha1);
    };
    let text = at.text()?;
    let found = VERSIONS.iter().find(|(name, _)| *name == text);
    if found.is_none() {
        let hint = suggest(&text, &VERSIONS.map(|(name, _)| name));
        at.error(
            format!(
                "`{}` is not an API version that is read here",
                crate::yaml::shorten(&text)
            ),
            hint,
        );
    }
    // The newer one knows more keys, so that there is less to report besides.
    Some(found.map_or(Schema::V2Alpha1, |(_, schema)| *schema))
}

/// Checks `storageConfig`, which oc-mirror v1 kept its memory by.
fn storage(top: &mut Fields<'_>, schema: Schema) {
    let instead = "what is mirrored is remembered by the agent itself, and this is not used";
    if !schema.only_in_v1(top, "storageConfig", instead, "remove it") {
        return;
    }
    let Some(mut storage) = top.peek("storageConfig").and_then(|at| at.fields()) else {
        return;
    };
    if let Some(mut registry) = storage.fields("registry") {
        registry.text("imageURL");
        registry.flag("skipTLS");
        registry.finish();
    }
    if let Some(mut local) = storage.fields("local") {
        local.text("path");
        local.finish();
    }
    storage.finish();
}

/// Reads `mirror`.
fn mirror(top: &mut Fields<'_>, schema: Schema) -> Option<(ImageSet, Vec<Claim>)> {
    let written = top.has("mirror");
    let Some(at) = top.get("mirror") else {
        if written {
            top.at()
                .note(Severity::Warning, "mirror", "`mirror` asks for nothing", "");
            return Some((ImageSet::default(), Vec::new()));
        }
        top.missing("mirror", "write what is wanted below `mirror:`");
        return None;
    };
    let mut fields = at.fields()?;
    let mut claims = Vec::new();
    let image_set = ImageSet {
        platform: platform::read(&mut fields, schema),
        operators: operators::read(&mut fields, schema, &mut claims),
        additional_images: images::additional(&mut fields, schema, &mut claims),
        helm: images::helm(&mut fields, schema),
        blocked_images: images::blocked(&mut fields, schema),
        ..ImageSet::default()
    };
    images::samples(&mut fields);
    let nothing = fields.is_empty();
    fields.finish();
    if nothing {
        at.warn("`mirror` asks for nothing", "");
    }
    Some((image_set, claims))
}
