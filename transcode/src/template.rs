//! Path templates as `google.api.http` writes them (googleapis, google/api/http.proto, "Path template syntax"):
//!
//! ```text
//! Template  = "/" Segments [ ":" LITERAL ] ;      the end behind the colon is called the verb
//! Segments  = Segment { "/" Segment } ;
//! Segment   = "*" | "**" | LITERAL | Variable ;   "**" only as the last one
//! Variable  = "{" FieldPath [ "=" Segments ] "}" ;
//! FieldPath = IDENT { "." IDENT } ;
//! ```

use std::cmp::Ordering;
use std::str::FromStr;

use crate::percent;

/// A template that paths are held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Segment>,
    verb: Option<String>,
    variables: Vec<Variable>,
}

/// In the order in which templates that both match a path are preferred.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    /// This text.
    Literal(String),
    /// Any one segment that is not empty.
    One,
    /// Whatever is left, were it nothing.
    Rest,
}

/// Segments that fill a field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Variable {
    field: String,
    first: usize,
    /// The one behind the last; `None`: all that is left.
    end: Option<usize>,
    /// Its segments are more than one may be: their slashes are not those of the value.
    many: bool,
}

impl Template {
    /// The fields that a path fills.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|variable| variable.field.as_str())
    }

    /// What `path` fills the fields with; `None`: it is not of this form. The path is as it was sent, without a query.
    pub fn matches(&self, path: &str) -> Option<Vec<(&str, String)>> {
        let path = path.strip_prefix('/')?;
        let path = match &self.verb {
            None => path,
            Some(verb) => {
                let (path, last) = path.rsplit_once(':')?;
                if percent::text(last, |_| false)? != *verb {
                    return None;
                }
                path
            }
        };
        let parts: Vec<&str> = path.split('/').collect();
        let has_rest = self.segments.last() == Some(&Segment::Rest);
        let fixed = self.segments.len() - usize::from(has_rest);
        if parts.len() < fixed || (!has_rest && parts.len() > fixed) {
            return None;
        }
        for (segment, part) in self.segments.iter().zip(&parts) {
            let fits = match segment {
                Segment::Literal(text) => percent::text(part, |_| false)? == *text,
                Segment::One => !part.is_empty(),
                Segment::Rest => true,
            };
            if !fits {
                return None;
            }
        }
        let value = |variable: &Variable| {
            let parts = &parts[variable.first..variable.end.unwrap_or(parts.len())];
            // In a value of one segment a slash that is written by its number is a slash; in one of several it tells no two segments apart.
            percent::text(&parts.join("/"), |byte| variable.many && byte == b'/')
        };
        self.variables.iter().map(|variable| Some((variable.field.as_str(), value(variable)?))).collect()
    }

    /// Which of two to prefer where both match: one with a verb, then the one that says more in the earlier segments.
    pub fn preference(&self, other: &Template) -> Ordering {
        let verb = other.verb.is_some().cmp(&self.verb.is_some());
        let kinds = |template: &Template| template.segments.iter().map(Segment::kind).collect::<Vec<_>>();
        verb.then_with(|| kinds(self).cmp(&kinds(other)))
    }
}

impl Segment {
    fn kind(&self) -> u8 {
        match self {
            Segment::Literal(_) => 0,
            Segment::One => 1,
            Segment::Rest => 2,
        }
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Template, String> {
        let wrong = |what: &str| format!("the path template `{text}`: {what}");
        let mut rest = text.strip_prefix('/').ok_or_else(|| wrong("it does not begin with a slash"))?;
        let mut template = Template { segments: Vec::new(), verb: None, variables: Vec::new() };
        loop {
            rest = match rest.strip_prefix('{') {
                Some(inside) => {
                    let (inside, behind) = inside.split_once('}').ok_or_else(|| wrong("a brace is not closed"))?;
                    template.variable(inside).map_err(|what| wrong(&what))?;
                    behind
                }
                None => {
                    let end = rest.find(['/', ':']).unwrap_or(rest.len());
                    template.segment(&rest[..end]).map_err(|what| wrong(&what))?;
                    &rest[end..]
                }
            };
            match rest.split_at_checked(1) {
                None => break,
                Some(("/", behind)) => rest = behind,
                Some((":", verb)) if !verb.is_empty() && !verb.contains(['/', ':', '{', '}', '*']) => {
                    template.verb = Some(verb.to_owned());
                    break;
                }
                Some(_) => return Err(wrong("a segment or a variable is followed by neither `/` nor `:VERB`")),
            }
        }
        let before_last = template.segments.split_last().map_or(&[][..], |(_, before)| before);
        if before_last.contains(&Segment::Rest) {
            return Err(wrong("`**` stands before the end"));
        }
        let mut fields: Vec<&str> = template.fields().collect();
        fields.sort_unstable();
        if fields.windows(2).any(|two| two[0] == two[1]) {
            return Err(wrong("a field is filled twice"));
        }
        Ok(template)
    }
}

impl Template {
    fn segment(&mut self, text: &str) -> Result<(), String> {
        self.segments.push(match text {
            "*" => Segment::One,
            "**" => Segment::Rest,
            "" => return Err("a segment is empty".to_owned()),
            text if text.contains(['*', '{', '}', '=']) => return Err(format!("`{text}` is no segment")),
            text => Segment::Literal(text.to_owned()),
        });
        Ok(())
    }

    fn variable(&mut self, text: &str) -> Result<(), String> {
        let (field, segments) = text.split_once('=').unwrap_or((text, "*"));
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with(|first: char| first.is_ascii_digit())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if !field.split('.').all(is_name) {
            return Err(format!("`{field}` is no field's name"));
        }
        let first = self.segments.len();
        segments.split('/').try_for_each(|segment| match segment.contains(':') {
            true => Err(format!("`{segment}` is no segment")),
            false => self.segment(segment),
        })?;
        let rest = self.segments.last() == Some(&Segment::Rest);
        let many = rest || self.segments.len() - first > 1;
        let end = Some(self.segments.len()).filter(|_| !rest);
        self.variables.push(Variable { field: field.to_owned(), first, end, many });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, path: &str, want: Option<&[(&str, &str)]>) {
        let template: Template = template.parse().expect(template);
        let seen = template.matches(path);
        let seen: Option<Vec<(&str, &str)>> =
            seen.as_ref().map(|filled| filled.iter().map(|(field, value)| (*field, value.as_str())).collect());
        assert_eq!(seen.as_deref(), want, "{path}");
    }

    #[test]
    fn paths_are_of_a_form_or_not() {
        check("/v1/orders", "/v1/orders", Some(&[]));
        check("/v1/orders", "/v1/order%73", Some(&[]));
        check("/v1/orders", "/v1/orders/", None);
        check("/v1/orders", "/v1", None);
        check("/v1/orders", "v1/orders", None);
        check("/v1/*/x", "/v1/any/x", Some(&[]));
        check("/v1/*/x", "/v1//x", None);
        check("/v1/{id}", "/v1/7", Some(&[("id", "7")]));
        check("/v1/{id}", "/v1/a%2Fb%20c", Some(&[("id", "a/b c")]));
        check("/v1/{id}", "/v1/a/b", None);
        check("/v1/{id}", "/v1/", None);
        check("/v1/{id}", "/v1/%zz", None);
        check("/v1/{order.id}/items/{item}", "/v1/7/items/8", Some(&[("order.id", "7"), ("item", "8")]));
        check("/v1/{name=shelves/*/books/*}", "/v1/shelves/1/books/2", Some(&[("name", "shelves/1/books/2")]));
        check("/v1/{name=shelves/*/books/*}", "/v1/shelves/a%2Fb/books/2", Some(&[("name", "shelves/a%2Fb/books/2")]));
        check("/v1/{name=shelves/*}", "/v1/shelf/1", None);
        check("/v1/{name=**}", "/v1/a/b/c", Some(&[("name", "a/b/c")]));
        check("/v1/{name=**}", "/v1", Some(&[("name", "")]));
        check("/v1/{name=files/**}", "/v1/files/a/b", Some(&[("name", "files/a/b")]));
        check("/**", "/what/ever", Some(&[]));
        check("/v1/{name=shelves/*}:clear", "/v1/shelves/1:clear", Some(&[("name", "shelves/1")]));
        check("/v1/{name=shelves/*}:clear", "/v1/shelves/1", None);
        check("/v1/{name=shelves/*}:clear", "/v1/shelves/1:open", None);
        check("/v1/{name=**}:clear", "/v1/a/b:clear", Some(&[("name", "a/b")]));
        check("/v1/all:batch", "/v1/all:batch", Some(&[]));
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in [
            "",
            "v1",
            "/",
            "/v1//x",
            "/v1/",
            "/v1/{id",
            "/v1/{}",
            "/v1/{1d}",
            "/v1/{a..b}",
            "/v1/{a=}",
            "/v1/{a={b}}",
            "/v1/{a}b",
            "/v1/a*",
            "/**/x",
            "/{a=**}/x",
            "/v1/x:",
            "/v1/x:a:b",
            "/v1/x:a/b",
            "/{a}/{a}",
        ] {
            assert!(text.parse::<Template>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_one_that_says_more_comes_first() {
        let mut templates: Vec<Template> =
            ["/v1/{x=**}", "/v1/{x}", "/v1/own", "/{x}/own", "/v1/{x}:go"].map(|text| text.parse().unwrap()).into();
        templates.sort_by(Template::preference);
        let path = |path: &str| templates.iter().position(|template| template.matches(path).is_some()).unwrap();
        assert_eq!(
            [path("/v1/a:go"), path("/v1/own"), path("/v1/b"), path("/x/own"), path("/v1/c/d")],
            [0, 1, 2, 4, 3]
        );
    }
}
