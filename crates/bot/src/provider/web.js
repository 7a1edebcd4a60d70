(() => {
  const usable = (element) => element && !element.disabled && element.getClientRects().length > 0;
  // A page may have several, one for each of its states: the one that can be used now.
  const part = (name) => [...document.querySelectorAll(`[data-greenroom="${name}"]`)].find(usable);

  // Sets a field the way a person does: frameworks listen to the events and keep their own idea of the value.
  const type = (field, text) => {
    const { set } = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value");
    field.focus();
    set.call(field, text);
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.dispatchEvent(new Event("change", { bubbles: true }));
  };

  return {
    look() {
      const root = document.querySelector("[data-greenroom-state]");
      const people = Number.parseInt(root?.dataset.greenroomParticipants ?? "", 10);
      const [navigation] = performance.getEntriesByType("navigation");
      return {
        state: root?.dataset.greenroomState ?? null,
        people: Number.isInteger(people) && people >= 0 ? people : null,
        status: navigation?.responseStatus || null,
        loaded: document.readyState === "complete",
        ready: navigation?.domContentLoadedEventEnd > 0,
        error: root?.dataset.greenroomError ?? null,
      };
    },
    join(name, password) {
      const button = part("join");
      if (!usable(button)) return false;
      const nameField = part("name-input");
      if (usable(nameField)) type(nameField, name);
      const passwordField = part("password-input");
      if (password && usable(passwordField)) type(passwordField, password);
      if (button.disabled) return false;
      button.click();
      return true;
    },
    leave() {
      const button = part("leave");
      if (!usable(button)) return false;
      button.click();
      return true;
    },
  };
})()
