//! What requests bring along: fields that may be empty, files, places in long lists.

use tonic::{Code, Status};

use crate::{
    grpc::{
        convert::{refusal, unfit},
        v1,
    },
    reconcile::InlineFile,
};

/// Returns `None` for a field that was left empty.
pub fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Returns a field that has to be there; `what` says what is expected.
pub fn required<'a>(field: &str, text: &'a str, what: &str) -> Result<&'a str, Status> {
    given(text).ok_or_else(|| unfit(field, what))
}

/// The most files that may be sent along, and their size together.
const MOST_FILES: usize = 1000;
const MOST_BYTES: usize = 16 << 20;

/// Takes files that were sent along.
pub fn files(files: Vec<v1::File>) -> Result<Vec<InlineFile>, Status> {
    let bytes: usize = files.iter().map(|file| file.content.len()).sum();
    if files.len() > MOST_FILES || bytes > MOST_BYTES {
        return Err(refusal(
            Code::ResourceExhausted,
            "TOO_LARGE",
            format!(
                "{} files of {bytes} bytes were sent; {MOST_FILES} files of {MOST_BYTES} bytes are taken at once",
                files.len()
            ),
        ));
    }
    if let Some(at) = files.iter().position(|file| !is_relative(&file.name)) {
        return Err(unfit(
            &format!("files[{at}].name"),
            format!(
                "`{}` is not a relative path without `.` and `..`, which a file's name has to be",
                files[at].name
            ),
        ));
    }
    Ok(files
        .into_iter()
        .map(|file| InlineFile {
            name: file.name,
            content: file.content.into_bytes(),
        })
        .collect())
}

fn is_relative(name: &str) -> bool {
    name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Returns a page of `items` and the token of the next; a token is the key of the last item before the page.
pub fn page<T>(
    items: Vec<T>,
    key: impl Fn(&T) -> String,
    size: u32,
    sizes: (u32, u32),
    token: &str,
) -> Result<(Vec<T>, String), Status> {
    let (usual, most) = sizes;
    let size = if size == 0 { usual } else { size.min(most) } as usize;
    let begin = match given(token) {
        None => 0,
        Some(token) => 1 + items.iter().position(|item| key(item) == token).ok_or_else(|| {
            unfit("page_token", "the page token is none of this list, or what it stood for is gone; begin again without one")
        })?,
    };
    let more = items.len() > begin + size;
    let page: Vec<T> = items.into_iter().skip(begin).take(size).collect();
    let next = page.last().filter(|_| more).map(key).unwrap_or_default();
    Ok((page, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_one_another_without_gap() {
        let items: Vec<u32> = (1..=5).collect();
        let page =
            |token: &str| page(items.clone(), u32::to_string, 2, (100, 1000), token).unwrap();
        assert_eq!(page(""), (vec![1, 2], "2".to_owned()));
        assert_eq!(page("2"), (vec![3, 4], "4".to_owned()));
        assert_eq!(page("4"), (vec![5], String::new()));
    }

    #[test]
    fn a_token_of_elsewhere_is_refused() {
        let refused = page(vec![1], i32::to_string, 0, (1, 1), "x").unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }

    #[test]
    fn files_sent_along_are_bounded_and_stay_below_their_root() {
        let file = |name: &str| v1::File {
            name: name.to_owned(),
            content: String::new(),
        };
        assert!(files(vec![file("prod/a.yaml")]).is_ok());
        for name in ["/etc/a.yaml", "../a.yaml", "", "a//b.yaml", "./a.yaml"] {
            assert_eq!(
                files(vec![file(name)]).unwrap_err().code(),
                Code::InvalidArgument,
                "{name}"
            );
        }
        let many = (0..=MOST_FILES).map(|n| file(&n.to_string())).collect();
        assert_eq!(files(many).unwrap_err().code(), Code::ResourceExhausted);
    }
}
