//! Whether netmap knows the driver of an interface, or would have to emulate.

/// Whether the driver of `interface` has netmap's support built in; `None` if it cannot be told. A driver that has it
/// may still be emulated (dev.netmap.admode = 2).
///
/// FreeBSD: IFCAP_NETMAP among the capabilities of the interface, which netmap sets when such a driver attaches.
#[cfg(not(target_os = "linux"))]
pub fn driver_has_netmap(interface: &str) -> Option<bool> {
    const IFCAP_NETMAP: u32 = 0x10_0000;
    let (capabilities, _) = crate::link::capabilities(interface).ok()?;
    Some(capabilities & IFCAP_NETMAP != 0)
}

/// Whether the driver of `interface` has netmap's support built in; `None` if it cannot be told. A driver that has it
/// may still be emulated (netmap's parameter `admode` is 2, or a veth whose other end is not in netmap mode).
///
/// Linux: the module of such a driver calls netmap's, so it is among the holders of that.
#[cfg(target_os = "linux")]
pub fn driver_has_netmap(interface: &str) -> Option<bool> {
    let kind = crate::interface(interface).ok()??.kind;
    linux::known(std::path::Path::new("/sys"), interface, kind.as_deref())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;

    /// `kind`: of an interface that was made by software; its module is called the same.
    pub(super) fn known(sys: &Path, interface: &str, kind: Option<&str>) -> Option<bool> {
        // Only a loaded module has it: of a netmap inside the kernel nothing is known.
        let holders = sys.join("module/netmap/holders");
        if !holders.is_dir() {
            return None;
        }
        let driver = sys.join("class/net").join(interface).join("device/driver");
        let module = std::fs::read_link(driver.join("module")).ok();
        let module = module.as_deref().and_then(Path::file_name);
        match (module, kind) {
            (Some(module), _) => Some(holders.join(module).exists()),
            (None, Some(kind)) => Some(holders.join(kind).exists()),
            // A driver inside the kernel cannot call a module.
            (None, None) => driver.exists().then_some(false),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::fs::create_dir_all;
        use std::os::unix::fs::symlink;

        #[test]
        fn drivers_that_hold_the_module_have_netmap() {
            let folder = std::env::temp_dir().join(format!("l4sd-sys-{}", std::process::id()));
            let sys = |path: &str| folder.join(path);
            let driver = |interface: &str, name: &str, module: bool| {
                create_dir_all(sys(&format!("bus/{name}"))).unwrap();
                create_dir_all(sys(&format!("class/net/{interface}/device"))).unwrap();
                symlink(sys(&format!("bus/{name}")), sys(&format!("class/net/{interface}/device/driver")))
                    .unwrap();
                if module {
                    create_dir_all(sys(&format!("module/{name}"))).unwrap();
                    symlink(sys(&format!("module/{name}")), sys(&format!("bus/{name}/module"))).unwrap();
                }
            };
            driver("eth1", "e1000", true);
            driver("eth4", "8139cp", true);
            driver("eth5", "inside", false);
            assert_eq!(known(&folder, "eth1", None), None, "netmap is not loaded");
            create_dir_all(sys("module/netmap/holders")).unwrap();
            for holder in ["e1000", "veth"] {
                create_dir_all(sys(&format!("module/{holder}"))).unwrap();
                symlink(sys(&format!("module/{holder}")), sys(&format!("module/netmap/holders/{holder}")))
                    .unwrap();
            }
            for (interface, kind, native) in [
                ("eth1", None, Some(true)),
                ("eth4", None, Some(false)),
                ("eth5", None, Some(false)),
                ("v0", Some("veth"), Some(true)),
                ("d0", Some("dummy"), Some(false)),
                ("lo", None, None),
            ] {
                assert_eq!(known(&folder, interface, kind), native, "{interface}");
            }
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }
}
