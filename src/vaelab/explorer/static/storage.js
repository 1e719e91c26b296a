// Settings that are kept from one visit to the next, if the browser allows it.

const PREFIX = "vaelab explorer ";

export function loadSetting(key) {
  try {
    return localStorage.getItem(PREFIX + key);
  } catch {
    return null;
  }
}

export function saveSetting(key, text) {
  try {
    localStorage.setItem(PREFIX + key, text);
  } catch {
    // Private windows and blocked storage: the choice holds for this visit.
  }
}
