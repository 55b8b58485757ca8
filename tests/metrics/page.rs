//! A strict reader of Prometheus' text format 0.0.4, which knows nothing of how it was written.

use std::collections::{BTreeMap, BTreeSet};

/// Samples by name, and by their labels in the order of their names.
#[derive(Debug, Default)]
pub struct Page {
    /// Names and types.
    pub families: BTreeMap<String, String>,
    pub samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Page {
    /// # Errors
    /// What is wrong, with the line that it was seen at.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        let mut page = Self::default();
        // The family that is being read, and whether its TYPE was.
        let mut current: Option<(String, bool)> = None;
        for line in text.lines() {
            let wrong = |why: &str| format!("{why}: {line}");
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').ok_or_else(|| wrong("no help"))?;
                if help.is_empty() || page.families.contains_key(name) {
                    return Err(wrong("an empty help, or one family twice"));
                }
                current = Some((name.to_owned(), false));
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').ok_or_else(|| wrong("no type"))?;
                match &mut current {
                    Some((family, typed @ false)) if family == name => *typed = true,
                    _ => return Err(wrong("a TYPE that does not follow its HELP")),
                }
                if !["counter", "gauge", "histogram"].contains(&kind) {
                    return Err(wrong("no type that we have"));
                }
                page.families.insert(name.to_owned(), kind.to_owned());
            } else {
                let Some((family, true)) = &current else { return Err(wrong("a sample before HELP and TYPE")) };
                let (name, labels, value) = sample(line).ok_or_else(|| wrong("no sample"))?;
                let rest = name.strip_prefix(family.as_str()).ok_or_else(|| wrong("a sample of another family"))?;
                let histogram = page.families[family] == "histogram";
                if !(if histogram { ["_bucket", "_sum", "_count"].contains(&rest) } else { rest.is_empty() }) {
                    return Err(wrong("a name that the type does not have"));
                }
                if labels.contains_key("le") != (rest == "_bucket") {
                    return Err(wrong("le belongs to buckets"));
                }
                if value < 0.0 && page.families[family] != "gauge" {
                    return Err(wrong("less than nothing"));
                }
                if page.samples.insert((name, labels), value).is_some() {
                    return Err(wrong("one sample twice"));
                }
            }
        }
        page.histograms()?;
        Ok(page)
    }

    /// Buckets ascend and end with all there are.
    fn histograms(&self) -> Result<(), String> {
        for family in self.families.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
            let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
            for ((name, labels), count) in &self.samples {
                if *name == format!("{family}_bucket") {
                    let mut labels = labels.clone();
                    let bound = labels.remove("le").unwrap();
                    let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().map_err(|_| bound)? };
                    series.entry(labels).or_default().push((bound, *count));
                }
            }
            let counted = self.samples.keys().filter(|(name, _)| *name == format!("{family}_count"));
            if counted.map(|(_, labels)| labels).ne(series.keys()) {
                return Err(format!("{family}: buckets without a count, or a count without buckets"));
            }
            for (labels, mut buckets) in series {
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                let of = |end: &str| self.samples.get(&(format!("{family}{end}"), labels.clone())).copied();
                let ascend = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
                let (last, count) = (buckets.last().copied(), of("_count"));
                if !ascend || last != count.map(|count| (f64::INFINITY, count)) || of("_sum").is_none() {
                    return Err(format!("{family}{labels:?}: {buckets:?}, {count:?} in all"));
                }
            }
        }
        Ok(())
    }

    /// All samples of a name that have these labels among theirs, added up; `None` if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |of: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| of.get(*label).is_some_and(|found| found == value))
        };
        let found: Vec<f64> =
            self.samples.iter().filter(|((of, with), _)| of == name && has(with)).map(|(_, value)| *value).collect();
        (!found.is_empty()).then(|| found.iter().sum())
    }

    /// The values of a label.
    pub fn values(&self, label: &str) -> BTreeSet<&str> {
        self.samples.keys().filter_map(|(_, labels)| labels.get(label).map(String::as_str)).collect()
    }
}

/// `name{label="value",...} 1.0`.
fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else {
        return word(series).then(|| (series.to_owned(), BTreeMap::new(), value));
    };
    let mut rest = labels.strip_suffix('}')?;
    let mut found = BTreeMap::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    escaped @ ('\\' | '"') => escaped,
                    _ => return None,
                }),
                (_, character) => value.push(character),
            }
        };
        if !word(label) || found.insert(label.to_owned(), value).is_some() {
            return None;
        }
        rest = &quoted[end + 1..];
        if !rest.is_empty() {
            rest = rest.strip_prefix(',').filter(|rest| !rest.is_empty())?;
        }
    }
    (word(name) && !found.is_empty()).then(|| (name.to_owned(), found, value))
}

fn word(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.as_bytes()[0].is_ascii_digit()
}

#[test]
fn what_is_no_page_is_refused() {
    const HEAD: &str = "# HELP a A.\n# TYPE a gauge\n";
    const HISTOGRAM: &str = "# HELP h H.\n# TYPE h histogram\n";
    let good = format!("{HEAD}a{{b=\"\\\"c\\\\\",d=\"e,f}}\"}} -1.5\na{{b=\"x\",d=\"y\"}} 2\n");
    let page = Page::parse(&good).unwrap();
    assert_eq!(page.sum("a", &[("b", "\"c\\")]), Some(-1.5));
    assert_eq!(page.sum("a", &[]), Some(0.5));
    let buckets = "h_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 3\n";
    assert!(Page::parse(&format!("{HISTOGRAM}{buckets}h_sum 9\nh_count 3\n")).is_ok());
    for bad in [
        "a 1\n".to_owned(),
        "# TYPE a gauge\na 1\n".to_owned(),
        format!("{HEAD}a 1"),
        format!("{HEAD}b 1\n"),
        format!("{HEAD}a_total 1\n"),
        format!("{HEAD}a 1\na 1\n"),
        format!("{HEAD}a one\n"),
        format!("{HEAD}a{{}} 1\n"),
        format!("{HEAD}a{{b=\"c\",b=\"d\"}} 1\n"),
        format!("{HEAD}a{{b=\"c\" 1\n"),
        format!("{HEAD}a{{b=\"c\",}} 1\n"),
        format!("{HEAD}{HEAD}"),
        "# HELP c C.\n# TYPE c counter\nc -1\n".to_owned(),
        format!("{HISTOGRAM}{buckets}h_sum 9\nh_count 4\n"),
        format!("{HISTOGRAM}{buckets}h_count 3\n"),
        format!("{HISTOGRAM}h_bucket{{le=\"1.0\"}} 3\nh_bucket{{le=\"+Inf\"}} 2\nh_sum 9\nh_count 2\n"),
        format!("{HISTOGRAM}h_bucket{{le=\"1.0\"}} 1\nh_sum 9\nh_count 1\n"),
        format!("{HISTOGRAM}h_sum 9\nh_count 1\n"),
    ] {
        assert!(Page::parse(&bad).is_err(), "taken for a page:\n{bad}");
    }
}
