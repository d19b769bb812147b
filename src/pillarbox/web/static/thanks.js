// The page that thanks for a message which went without the form's script: an older draft of it would come back.

import { Draft } from "./draft.js";

new Draft("send-message").forget();
