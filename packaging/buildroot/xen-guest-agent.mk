################################################################################
#
# xen-guest-agent
#
################################################################################

# Recipe for Buildroot. It was never built there: docs/packaging.md says what has been checked.

XEN_GUEST_AGENT_VERSION = 1.0.0
# The address of the directory with the project's releases.
XEN_GUEST_AGENT_SITE = URL
# git archive --prefix=xen-guest-agent-1.0.0/ --output=xen-guest-agent-1.0.0.tar.gz v1.0.0
XEN_GUEST_AGENT_SOURCE = xen-guest-agent-$(XEN_GUEST_AGENT_VERSION).tar.gz
XEN_GUEST_AGENT_LICENSE = MIT or Apache-2.0
XEN_GUEST_AGENT_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE
XEN_GUEST_AGENT_CARGO_BUILD_OPTS = -p xen-guest-agent

define XEN_GUEST_AGENT_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/target/$(RUSTC_TARGET_NAME)/$(if $(BR2_ENABLE_DEBUG),debug,release)/xen-guest-agent \
		$(TARGET_DIR)/usr/sbin/xen-guest-agent
	$(INSTALL) -D -m 0644 $(@D)/dist/etc/xen-guest-agent/config.toml \
		$(TARGET_DIR)/etc/xen-guest-agent/config.toml
	$(INSTALL) -d -m 0755 $(TARGET_DIR)/etc/xen-guest-agent/conf.d \
		$(TARGET_DIR)/etc/xen-guest-agent/services.d
	$(INSTALL) -D -m 0644 $(@D)/dist/usr/lib/udev/rules.d/60-xen-vcpu-hotplug.rules \
		$(TARGET_DIR)/usr/lib/udev/rules.d/60-xen-vcpu-hotplug.rules
endef

define XEN_GUEST_AGENT_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/dist/usr/lib/systemd/system/xen-guest-agent.service \
		$(TARGET_DIR)/usr/lib/systemd/system/xen-guest-agent.service
endef

define XEN_GUEST_AGENT_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(@D)/dist/sysv/xen-guest-agent \
		$(TARGET_DIR)/etc/init.d/S50xen-guest-agent
endef

define XEN_GUEST_AGENT_USERS
	xen-guest-agent -1 xen-guest-agent -1 * - - - Xen guest agent
endef

$(eval $(cargo-package))
