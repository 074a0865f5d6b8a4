package receive_test

import (
	"errors"

	"github.com/coder/websocket"
)

func asClose(err error, to *websocket.CloseError) bool { return errors.As(err, to) }
