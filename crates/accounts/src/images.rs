//! Lists of images that a tenant's bots may name.

const MOST: usize = 100;
const LONGEST: usize = 512;
/// Of all together, in bytes. The list goes along with every call of the tenant, in a header.
const LARGEST: usize = 4 << 10;

/// Checks a list. `*` may stand at the end of an image.
///
/// # Errors
/// Says what is wrong, and what is allowed.
pub(crate) fn check(images: &[String]) -> Result<(), String> {
    if images.len() > MOST {
        return Err(format!("must not name more than {MOST} images"));
    }
    if images.iter().map(|image| image.len() + 2).sum::<usize>() > LARGEST {
        return Err(format!("must not be longer than {LARGEST} bytes together; shorten them to beginnings and *"));
    }
    for image in images {
        let name = image.strip_suffix('*').unwrap_or(image);
        if image.is_empty()
            || image.len() > LONGEST
            || name.contains('*')
            || !name.chars().all(|c| c.is_ascii_graphic())
        {
            return Err(format!(
                "each must be an image, such as ghcr.io/acme/bot:1, or the beginning of one and *, of at most {LONGEST} visible ASCII characters"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_beginnings_of_images_are_taken() {
        let check = |image: &str| check(&[image.to_owned()]).is_ok();
        for good in ["bot", "ghcr.io/acme/bot:1", "ghcr.io/acme/*", "*", "bot@sha256:0f"] {
            assert!(check(good), "{good}");
        }
        for bad in ["", " ", "a b", "*/bot", "a*b*", "b\nt", "\u{fc}", &"x".repeat(513)] {
            assert!(!check(bad), "{bad:?}");
        }
        assert!(super::check(&vec!["bot".to_owned(); 101]).is_err());
        assert!(super::check(&vec!["b".repeat(510); 8]).is_ok());
        assert!(super::check(&vec!["b".repeat(510); 9]).is_err());
    }
}
