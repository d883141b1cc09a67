#[lcr_core::component]
mod english {
    pub struct English;
}

mod french {
    lcr_core::file_component! {}
}

fn main() {}
