/*
 * Says that the page cannot run in this browser. A script of its own in the syntax of 2009 (ES5),
 * because an old browser cannot read the other scripts. The other scripts set `data-started`.
 */
(function () {
  'use strict';
  /** @param {string} text or nothing for the text of the page */
  function say(text) {
    var find = document.querySelector.bind(document);
    /** @type {Element} */ (find('#start-problem')).removeAttribute('hidden');
    if (text) /** @type {Element} */ (find('#start-problem-text')).textContent = text;
    /** @type {Element} */ (find('#start-page')).setAttribute('hidden', '');
  }

  // A script of type "module" has ended or failed before this event.
  window.addEventListener('load', function () {
    if (!window.RTCPeerConnection) say('This page cannot make calls, because WebRTC is missing or disabled in your browser. Enable WebRTC, or use Chrome or Edge 109, Firefox 115, Safari 15.4, or a later version of them.');
    else if (!document.documentElement.hasAttribute('data-started')) say('');
  });
})();
