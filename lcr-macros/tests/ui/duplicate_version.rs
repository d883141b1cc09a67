#[lcr_core::component]
mod a {
    #[interface(name = "A_iface1", version = 0)]
    mod v0 {
        #[function]
        extern "C" fn func1() {}
    }

    #[interface(name = "A_iface1", version = 0)]
    mod v1 {
        #[function]
        extern "C" fn func1() {}
    }
}

fn main() {}
