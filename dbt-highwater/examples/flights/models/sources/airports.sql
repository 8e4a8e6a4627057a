{# A source model's body is what stands after CREATE SOURCE name. #}
(
    faa VARCHAR, name VARCHAR, lat FLOAT8, lon FLOAT8, alt INT, tz INT, dst VARCHAR, tzone VARCHAR
) WITH (connector = 'files', path = '{{ var("data_dir") }}/airports.csv.gz')
FORMAT PLAIN ENCODE CSV (header = true, null_string = 'NA')
