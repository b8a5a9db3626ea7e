exception NoSuchUser { 1: string name }

struct User {
    1: string name
    2: i32 age
}

service Users {
    User find(1: string name) throws (1: NoSuchUser missing)
    oneway void seen(1: string name)
}
