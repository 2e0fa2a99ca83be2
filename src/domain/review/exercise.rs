//! What of a profile's grants was exercised, as far as the statements tell that a target remembers.
//!
//! A statement exercises a privilege only if it names the relation, and holds a word that asks for the privilege. So what
//! no statement names was not exercised by name; what one names may have been. Doubt is on the side of "exercised":
//! nothing is called unused that was used.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::domain::words::words;

words! {
    /// A privilege on a relation that statements exercise.
    Privilege {
        /// To read rows.
        Select = "select",
        /// To add rows.
        Insert = "insert",
        /// To change rows.
        Update = "update",
        /// To remove rows.
        Delete = "delete",
        /// To remove all rows at once.
        Truncate = "truncate",
    }
}

impl Privilege {
    /// The words one of which a statement has that exercises it; any statement may read.
    const fn words(self) -> &'static [&'static str] {
        match self {
            Self::Select => &[],
            Self::Insert => &["insert", "merge", "copy"],
            Self::Update => &["update", "merge", "share"],
            Self::Delete => &["delete", "merge"],
            Self::Truncate => &["truncate"],
        }
    }
}

/// A table, a view or the like, and privileges on it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Grant {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub relation: String,
    /// The privileges.
    pub privileges: BTreeSet<Privilege>,
}

/// What is known of how a profile's grants were exercised.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Exercise {
    /// The target remembers statements.
    Known(Exercised),
    /// It does not, or not to us.
    Unknown {
        /// Why, and what to do about it.
        why: String,
    },
}

/// What the statements tell that a target remembers of a profile's sessions.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Exercised {
    /// Since when it remembers; not known before PostgreSQL 14.
    pub since: Option<DateTime<Utc>>,
    /// How many different statements it remembers.
    pub statements: i64,
    /// How many it forgot since then, of anybody's, because there were too many. Not known before PostgreSQL 14.
    pub forgotten: Option<i64>,
    /// How many relations the profile's group role holds privileges on.
    pub relations: usize,
    /// Those with privileges that no statement asks for by name, and these privileges: the first ones.
    pub never: Vec<Grant>,
    /// How many there are besides.
    pub more: usize,
}

/// Longer lists are read by nobody, and a database may have a hundred thousand tables.
const MOST_NAMED: usize = 200;

impl Exercise {
    /// In a few words, for a cell of a table.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::Unknown { why } => format!("not known: {why}"),
            Self::Known(known) if known.statements == 0 => "no statement was run".to_owned(),
            Self::Known(known) => {
                let (never, all) = (known.never.len() + known.more, known.relations);
                format!(
                    "{} statements; {never} of {all} relations with privileges that none asks for",
                    known.statements
                )
            }
        }
    }
}

impl Exercised {
    /// A line for each relation with privileges that no statement asks for.
    #[must_use]
    pub fn never_in_words(&self) -> Vec<String> {
        let line = |grant: &Grant| {
            let privileges: Vec<_> = grant.privileges.iter().map(|each| each.as_str()).collect();
            format!("{}.{}: {} never", grant.schema, grant.relation, privileges.join(", "))
        };
        let mut lines: Vec<_> = self.never.iter().map(line).collect();
        if self.more > 0 {
            lines.push(format!("{} more", self.more));
        }
        lines
    }
}

/// Statements as they are read, one after the other, against what was granted.
#[derive(Debug)]
pub struct Reading {
    grants: Vec<Grant>,
    /// Relations by their names, in small letters.
    by_name: BTreeMap<String, Vec<usize>>,
    /// Names that are more than one word, such as `order lines`.
    odd: BTreeSet<String>,
    /// How many different privileges each has left that no statement asked for.
    left: Vec<BTreeSet<Privilege>>,
    statements: i64,
}

impl Reading {
    /// Before the first statement.
    #[must_use]
    pub fn of(grants: Vec<Grant>) -> Self {
        let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (n, grant) in grants.iter().enumerate() {
            by_name.entry(grant.relation.to_lowercase()).or_default().push(n);
        }
        let odd = by_name.keys().filter(|name| !name.chars().all(is_of_a_word)).cloned().collect();
        let left = grants.iter().map(|grant| grant.privileges.clone()).collect();
        Self { grants, by_name, odd, left, statements: 0 }
    }

    /// One more statement.
    pub fn read(&mut self, text: &str) {
        self.statements += 1;
        let text = text.to_lowercase();
        let words: BTreeSet<&str> = text.split(|letter| !is_of_a_word(letter)).collect();
        let odd = self.odd.iter().map(String::as_str).filter(|name| text.contains(name));
        let named = words.iter().copied().chain(odd).filter_map(|name| self.by_name.get(name));
        for relation in named.flatten() {
            let Some(left) = self.left.get_mut(*relation) else { continue };
            left.retain(|privilege| {
                let asks = privilege.words();
                !asks.is_empty() && asks.iter().all(|word| !words.contains(word))
            });
        }
    }

    /// After the last one.
    #[must_use]
    pub fn end(self, since: Option<DateTime<Utc>>, forgotten: Option<i64>) -> Exercised {
        let relations = self.grants.len();
        let unused = self.grants.into_iter().zip(self.left);
        let unused = unused.filter(|(_, left)| !left.is_empty());
        let mut never: Vec<_> =
            unused.map(|(grant, privileges)| Grant { privileges, ..grant }).collect();
        let more = never.len().saturating_sub(MOST_NAMED);
        never.truncate(MOST_NAMED);
        Exercised { since, statements: self.statements, forgotten, relations, never, more }
    }
}

/// A letter of a name that stands in a statement without quotes.
fn is_of_a_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '$'
}

#[cfg(test)]
mod tests {
    use super::*;
    use Privilege::{Delete, Insert, Select, Truncate, Update};

    fn left_after(name: &str, privileges: &[Privilege], statements: &[&str]) -> Vec<Privilege> {
        let privileges = privileges.iter().copied().collect();
        let grant = Grant { schema: "shop".into(), relation: name.into(), privileges };
        let mut reading = Reading::of(vec![grant]);
        statements.iter().for_each(|statement| reading.read(statement));
        let end = reading.end(None, None);
        assert_eq!(end.statements, i64::try_from(statements.len()).unwrap());
        end.never.into_iter().flat_map(|grant| grant.privileges).collect()
    }

    #[test]
    fn what_no_statement_names_was_not_exercised() {
        let all = [Select, Insert, Update, Delete, Truncate];
        assert_eq!(left_after("orders", &all, &[]), all);
        assert_eq!(
            left_after("orders", &all, &["SELECT * FROM order_lines", "DELETE FROM orders_old"]),
            all
        );
        assert_eq!(
            left_after("orders", &all, &["select * from shop.orders where id = $1"]),
            [Insert, Update, Delete, Truncate]
        );
        let written = ["INSERT INTO \"orders\" VALUES ($1)", "UPDATE public.Orders SET a = 1"];
        assert_eq!(left_after("orders", &all, &written), [Delete, Truncate]);
        assert_eq!(left_after("orders", &all, &["MERGE INTO orders USING x ON true"]), [Truncate]);
    }

    #[test]
    fn in_doubt_it_was() {
        // To lock rows takes the right to change them; a name may stand in a subquery, or in a comment.
        assert_eq!(left_after("t", &[Update], &["SELECT * FROM t FOR SHARE"]), []);
        assert_eq!(
            left_after("t", &[Delete], &["DELETE FROM u WHERE id IN (SELECT id FROM t)"]),
            []
        );
        assert_eq!(left_after("order lines", &[Select], &["SELECT * FROM \"Order Lines\""]), []);
        assert_eq!(left_after("Größe", &[Select], &["SELECT * FROM \"GRÖSSE\", größe"]), []);
    }

    #[test]
    fn long_lists_are_cut_and_counted() {
        let grant = |n: usize| Grant {
            schema: "s".into(),
            relation: format!("t{n}"),
            privileges: [Select].into(),
        };
        let end = Reading::of((0..1000).map(grant).collect()).end(None, Some(3));
        assert_eq!((end.never.len(), end.more, end.relations), (200, 800, 1000));
        assert_eq!(Exercise::Known(end).in_words(), "no statement was run");
    }
}
