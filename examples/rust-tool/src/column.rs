//! Reads one column of numbers from CSV with a header line and quoted fields.

use std::io::BufRead;

/// The numbers of the column called `name`; empty cells are left out.
pub fn read(input: impl BufRead, name: &str) -> Result<Vec<f64>, String> {
    let mut lines = input.lines().enumerate();
    let (_, header) = lines.next().ok_or("the input is empty")?;
    let header = fields(&header.map_err(|error| error.to_string())?);
    let at = header
        .iter()
        .position(|field| field == name)
        .ok_or_else(|| format!("there is no column {name}; there are {}", header.join(", ")))?;
    let mut numbers = Vec::new();
    for (index, line) in lines {
        let line = line.map_err(|error| error.to_string())?;
        let row = fields(&line);
        let Some(cell) = row.get(at).map(|cell| cell.trim()).filter(|cell| !cell.is_empty()) else { continue };
        let number = cell.parse().map_err(|_| format!("line {}: {cell} is not a number", index + 1))?;
        numbers.push(number);
    }
    Ok(numbers)
}

/// Splits a line at commas; `"a, b"` is one field and `""` in it is a quote.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("starts with one field and only grows");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => field.push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_fields_keep_their_commas() {
        assert_eq!(fields(r#"a,"b, ""c""",d"#), ["a", r#"b, "c""#, "d"]);
    }

    #[test]
    fn empty_cells_are_left_out() {
        assert_eq!(read("n,x\na,1\nb,\nc,3\n".as_bytes(), "x"), Ok(vec![1.0, 3.0]));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        assert_eq!(read("x\n1\ntwo\n".as_bytes(), "x").unwrap_err(), "line 3: two is not a number");
        assert_eq!(read("x,y\n".as_bytes(), "z").unwrap_err(), "there is no column z; there are x, y");
    }
}
