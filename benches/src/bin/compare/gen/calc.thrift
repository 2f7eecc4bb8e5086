namespace rs calc

service Calc {
    i64 add(1: required i64 a, 2: required i64 b),
    binary echo(1: required binary v),
}
