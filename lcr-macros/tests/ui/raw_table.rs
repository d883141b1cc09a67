#[lcr_core::component]
mod a {
    #[interface(name = "A_iface1", version = 0, per_reference)]
    mod v0 {
        #[function]
        extern "C" fn func1() {}
    }

    #[interface(name = "A_iface1", version = 1)]
    mod v1 {
        #[function]
        fn func1() {}

        #[function]
        extern "system" fn func2() {}

        #[function]
        extern "C-unwind" fn func3() {
            panic!("into the caller");
        }
    }

    #[interface(name = "A_iface1", version = 2)]
    mod v2 {
        #[constructor]
        extern "C" fn first(_: *mut c_void) -> c_int {
            0
        }

        #[constructor]
        extern "C" fn second(_: *mut c_void) -> c_int {
            0
        }

        #[destructor]
        extern "C-unwind" fn third(_: *mut c_void) {}
    }
}

fn main() {}
