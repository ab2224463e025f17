//! Declarations of arguments of which there is no schema.
//~ `Data<T>` needs `#[derive(schemars::JsonSchema)]` for `T`

use antiphon::{Data, NoSchema, typescript::Described};

pub fn register(events: &Described) {
    events.on("at", async |Data(time): Data<NoSchema>| {
        println!("{time:?}");
    });
}
