#[lcr_core::component]
mod a {
    #[interface(name = "A_iface1", version = 0)]
    mod v0 {
        #[constructor]
        extern "C" fn constructor(context: *mut c_void) {
            let _ = context;
        }

        #[destructor]
        extern "C" fn destructor(context: usize) {
            let _ = context;
        }

        #[function]
        extern "C" fn func1() {}
    }
}

fn main() {}
